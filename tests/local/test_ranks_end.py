"""Several ranks to their end: killed, failing, stopped, not come, not alike, going on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import (
    assert_all,
)
from tests.local.ranks_end_helpers import Write, data, last_end, train, trouble, write
from tests.local.training_helpers import (
    checkpoint_steps,
    curve,
    lines,
)

__all__ = ["data", "write"]  # fixtures, found by their names


LIKE_RELATIVE = 1e-5


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    """The run of two ranks to which nothing happened, with the callback in place."""
    need_horovod("gloo")
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = write(folder, **trouble(folder, "nothing", rank=9, at=99))
    assert_all(train(spec, 2))
    return folder / "run"


def assert_like(run: Path, other: Path) -> None:
    """Two runs have the same lines, with sums made in another order."""
    one, two = lines(run / "metrics.jsonl"), lines(other / "metrics.jsonl")
    curve(run)
    assert len(one) == len(two)
    for line, same in zip(one, two, strict=True):
        assert (line["step"], line["split"]) == (same["step"], same["split"])
        assert line["accuracy"] == same["accuracy"]
        np.testing.assert_allclose(line["loss"], same["loss"], rtol=LIKE_RELATIVE)


def test_rank_0_alone_writes(undisturbed: Path) -> None:
    attempts = lines(undisturbed / "attempts.jsonl")
    assert [line["event"] for line in attempts] == ["begin", "end"]
    curve(undisturbed)
    record = json.loads((undisturbed / "run.json").read_text())
    assert record["distribution"]["name"] == "horovod"
    assert "2 ranks by submitit, asked for, one CPU each" in record["distribution"]["why"]
    assert record["replicas"] == 2
    (events,) = (undisturbed / "tensorboard" / "train").iterdir()
    assert f".{attempts[0]['pid']}." in events.name


def test_a_signal_to_one_rank_stops_all_at_one_step_and_one_rank_goes_on(
    tmp_path: Path, write: Write, undisturbed: Path
) -> None:
    spec = write(tmp_path, **trouble(tmp_path, signal.SIGUSR2, rank=1, at=10))
    ended = train(spec, 2)
    assert_all(ended, 75)
    end = last_end(spec)
    assert end["outcome"] == "stopped"
    assert end["to_step"] == max(checkpoint_steps(tmp_path / "run"))
    for one in ended:
        assert f"stopped at step {end['to_step']} (" in one.err
    assert_all(train(spec, 1))
    assert_like(tmp_path / "run", undisturbed)


def test_the_others_leave_when_rank_0_is_killed_and_four_go_on(
    tmp_path: Path, write: Write, undisturbed: Path
) -> None:
    spec = write(tmp_path, **trouble(tmp_path, signal.SIGKILL, rank=0, at=10))
    first, second = train(spec, 2)
    assert first.code == -signal.SIGKILL
    assert second.code not in (0, -signal.SIGKILL), second.err
    assert "rank 0" in second.err
    assert "Traceback" not in second.err
    assert_all(train(spec, 4))
    assert_like(tmp_path / "run", undisturbed)
