"""Several ranks that do not come, do not fit or are stopped before they begin."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import (
    HARNESS,
    assert_all,
    group,
    run_ranks,
    send,
    start_ranks,
    wait_until,
)
from tests.local.ranks_end_helpers import Write, data, last_end, train, write

__all__ = ["data", "write"]  # fixtures, found by their names


def test_a_signal_before_the_first_step_sends_all_away(tmp_path: Path, write: Write) -> None:
    need_horovod("gloo")
    spec = write(tmp_path)
    command = ["run", str(spec), "--run-dir", str(tmp_path / "run")]
    command += ["-o", "cluster.strategy=horovod"]
    with group(tmp_path / "logs") as started:
        start_ranks(started, 2, [*HARNESS, *command])
        wait_until(lambda: all(map(hears, started.processes)), started)
        send(started, 1, signal.SIGUSR2)
        ended = started.ended()
    assert [one.code for one in ended] == [75, 75], ended[0].err + ended[1].err
    end = last_end(spec)
    assert end["outcome"] == "requeue"
    assert "SIGUSR2" in end["message"]


def hears(process: Any) -> bool:
    """Whether a process has a handler for SIGUSR2."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGUSR2 - 1) & 1)


def test_a_rank_that_never_starts_is_named(tmp_path: Path, write: Write) -> None:
    spec = write(tmp_path)
    ended = train(spec, 3, come=[0, 1], each=lambda rank: {"HARNESS_MEETING_S": "5"})
    assert_all(ended, 3)
    for one in ended:
        assert "rank 2" in one.err


def blocked(folder: Path) -> dict[str, str]:
    """An environment in which Horovod cannot be found, though it may be installed."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "def but_horovod(name, path=None, target=None):\n"
        "    return None if name.split('.')[0] == 'horovod' else find(name, path, target)\n"
        "PathFinder.find_spec = staticmethod(but_horovod)\n"
    )
    return {"PYTHONPATH": str(folder)}


REFUSED: Sequence[tuple[int, dict[str, Any], str]] = [
    (3, {"cluster.strategy": "horovod"}, "3 replicas cannot share the 8 lanes"),
    (2, {"cluster.strategy": "mirrored"}, "cluster.strategy is mirrored, which is for one process"),
    (1, {"cluster.strategy": "multiworker"}, "cluster.strategy is multiworker and there is one"),
    (1, {"cluster.nodes": 2}, "not as many ranks were started as the spec asks for"),
    (
        2,
        {"cluster.device": "auto", "cluster.gpus_per_node": 4, "cluster.ranks_per_node": 2},
        "there are fewer GPUs than cluster.gpus_per_node asks for",
    ),
]


@pytest.mark.parametrize(("ranks", "changes", "said"), REFUSED)
def test_ranks_that_do_not_fit_are_refused_before_training(
    tmp_path: Path, write: Write, ranks: int, changes: dict[str, Any], said: str
) -> None:
    need_horovod("gloo")
    spec = write(tmp_path, **changes)
    arguments = ["run", str(spec), "--run-dir", str(tmp_path / "run")]
    ended = run_ranks(
        tmp_path / "logs", ranks, *arguments, each=lambda rank: {"CUDA_VISIBLE_DEVICES": ""}
    )
    assert_all(ended, 3)
    for one in ended:
        assert said in one.err
        for part in ("got", "next:"):
            assert part in one.err


def test_without_horovod_it_is_said_what_to_run(tmp_path: Path, write: Write) -> None:
    spec = write(tmp_path)
    environment = blocked(tmp_path / "blocked")
    ended = train(spec, 2, each=lambda rank: environment)
    assert_all(ended, 3)
    for one in ended:
        assert "Horovod is not installed" in one.err
        assert "harness horovod" in one.err
