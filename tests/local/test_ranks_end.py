"""Several ranks to their end: killed, failing, stopped, not come, not alike, going on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import (
    HARNESS,
    Ended,
    assert_all,
    group,
    run_ranks,
    send,
    start_ranks,
    wait_until,
)
from tests.local.training_helpers import (
    assert_same_result,
    checkpoint_steps,
    curve,
    lines,
    write_spec,
)

LIKE_RELATIVE = 1e-5

# What goes wrong on one rank, and parts of a model and of data that are not alike.
TROUBLE = '''
import os, pathlib, signal
import numpy as np, tensorflow as tf, tf_keras
from harness.plugins import register

RANK = int(os.environ.get("SUBMITIT_LOCAL_GLOBALID", "0"))

@register("callback", "trouble")
class Trouble(tf_keras.callbacks.Callback):
    """Does something on one rank at a step, in the first attempt only."""

    def __init__(self, what, rank, at, mark):
        super().__init__()
        self.what, self.rank, self.at, self.mark = what, rank, at, pathlib.Path(mark)

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        if RANK != self.rank or step < self.at or self.mark.exists():
            return
        self.mark.write_text(str(step))
        if self.what == "stop":
            self.model.stop_training = True
        elif self.what == "drift":
            weight = self.model.trainable_weights[0]
            weight.assign(weight + 0.001)
        elif self.what == "raise":
            raise ValueError("the moon is full")
        else:
            os.kill(os.getpid(), int(self.what))

    def get_state(self):
        return {}

    def set_state(self, state):
        pass

@register("head", "unseeded")
def unseeded(features, outputs, draws):
    start = np.random.default_rng().normal(0, 0.1, (features.shape[-1], outputs))
    return tf_keras.layers.Dense(
        outputs, kernel_initializer=tf.constant_initializer(start), name="unseeded")(features)

class Breaks(tf_keras.layers.Layer):
    def __init__(self, draws):
        super().__init__()
        self.draws = draws

    def call(self, x, training=False):
        bad = tf.logical_and(bool(training), self.draws.step >= 7)
        return x * tf.where(bad, float("nan"), 1.0)

@register("head", "breaks")
def breaks(features, outputs, draws):
    return tf_keras.layers.Dense(outputs, name="out")(Breaks(draws)(features))

@register("source", "picky")
class Picky:
    classes, digest = ("a", "b"), "1"

    def __init__(self, path, options):
        if RANK == options["rank"]:
            raise OSError("no such tape")
        self.names = [f"{path}{number}" for number in range(32)]
        self.labels = [number % 2 for number in range(32)]

    def load(self, name):
        return tf.zeros([16, 16, 3], tf.uint8)
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    """51 pictures to train with and for validation, 15 to test."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", ["blue", "green", "red"], 17, 16)
    write_pictures(folder / "test", ["blue", "green", "red"], 5, 16)
    return folder


Write = Callable[..., Path]


@pytest.fixture(scope="module")
def write(tiny_backbone: Path, data: Path) -> Write:
    """``write(folder, **changes)``: a spec of 20 steps that saves every third."""

    def spec(folder: Path, **changes: Any) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "trouble.py").write_text(TROUBLE)
        phases = [{"name": "all", "epochs": 4, "learning_rate": 0.01}]
        plain = {"training.phases": phases, "plugins": [str(folder / "trouble.py")]}
        return write_spec(folder, tiny_backbone, data, **{**plain, **changes})

    return spec


def trouble(folder: Path, what: str | int, *, rank: int, at: int) -> dict[str, Any]:
    """Changes for ``write`` that add the callback."""
    options = {"what": str(what), "rank": rank, "at": at, "mark": str(folder / "mark")}
    return {"training.callbacks": [{"plugin": "trouble", "options": options}]}


def train(spec: Path, ranks: int, *more: str, **options: Any) -> list[Ended]:
    """The run beside the spec, on ranks of Horovod (or one process), to its end."""
    strategy = "single" if ranks == 1 else "horovod"
    arguments = ["run", str(spec), "--run-dir", str(spec.parent / "run")]
    arguments += ["-o", f"cluster.strategy={strategy}", *more]
    return run_ranks(spec.parent / "logs", ranks, *arguments, **options)


def last_end(spec: Path) -> dict[str, Any]:
    """The line in which the newest attempt has ended."""
    line = lines(spec.parent / "run" / "attempts.jsonl")[-1]
    assert line["event"] == "end"
    return line


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


def test_the_others_leave_with_a_killed_rank_and_the_next_start_goes_on(
    tmp_path: Path, write: Write, undisturbed: Path
) -> None:
    spec = write(tmp_path, **trouble(tmp_path, signal.SIGKILL, rank=1, at=10))
    first, second = train(spec, 2)
    assert second.code == -signal.SIGKILL
    assert first.code == 75, first.err
    end = last_end(spec)
    assert end["outcome"] == "interrupted"
    assert end["message"].startswith("rank 1 (")
    assert "ended without a word" in end["message"]
    assert "rank 1 (" in first.err
    assert_all(train(spec, 2))
    assert_same_result(tmp_path / "run", undisturbed)


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


def test_an_error_of_one_rank_is_the_run_s_by_its_name(tmp_path: Path, write: Write) -> None:
    need_horovod("gloo")
    spec = write(tmp_path, **trouble(tmp_path, "raise", rank=1, at=4))
    first, second = train(spec, 2)
    assert (first.code, second.code) == (1, 1), first.err + second.err
    end = last_end(spec)
    assert end["outcome"] == "failed"
    assert end["message"].startswith("rank 1 (")
    assert "the moon is full" in end["message"]
    assert (tmp_path / "run" / "FAILED").exists()


def test_a_rank_that_cannot_open_the_data_says_so_for_all(tmp_path: Path, write: Write) -> None:
    need_horovod("gloo")
    source = {"plugin": "picky", "options": {"rank": 1}}
    changes = {"data.source": source, "data.train": "x", "data.test": None}
    spec = write(tmp_path, **changes)
    first, second = train(spec, 2)
    end = last_end(spec)
    assert end["message"].startswith("rank 1 (")
    assert "no such tape" in end["message"]
    assert first.code == second.code == end["exit_code"] != 0
    assert "no such tape" in second.err


def test_corrupt_pictures_count_together_and_are_listed_once(
    tmp_path: Path, write: Write, data: Path
) -> None:
    """And weights drawn by each rank are made equal; and one rank can end training for all."""
    need_horovod("gloo")
    broken = with_broken(tmp_path / "data", data, 8)
    spec = write(
        tmp_path,
        **trouble(tmp_path, "stop", rank=1, at=8),
        **{
            "data.train": str(tmp_path / "data"),
            "data.validation": None,
            "data.corrupt": {"policy": "skip", "limit": "20%"},
            "head": {"plugin": "plugin:unseeded"},
            "checkpoint.best": {"metric": "loss", "mode": "min"},
        },
    )
    ended = train(spec, 2)
    assert_all(ended)
    listed = [line["name"] for line in lines(tmp_path / "run" / "corrupt.jsonl")]
    assert sorted(listed) == sorted(broken)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["counts"]["corrupt"] == len(broken)
    step = int((tmp_path / "mark").read_text())
    assert max(checkpoint_steps(tmp_path / "run")) == step < 20


def test_the_limit_of_corrupt_pictures_is_for_all_ranks_together(
    tmp_path: Path, write: Write, data: Path
) -> None:
    need_horovod("gloo")
    with_broken(tmp_path / "data", data, 8)
    spec = write(
        tmp_path,
        **{
            "data.train": str(tmp_path / "data"),
            "data.validation": None,
            "data.corrupt": {"policy": "skip", "limit": "13%"},  # 6 of 51
            "checkpoint.best": {"metric": "loss", "mode": "min"},
        },
    )
    ended = train(spec, 2)
    assert [one.code for one in ended] == [4, 4], ended[0].err + ended[1].err
    assert last_end(spec)["outcome"] == "refused"


def with_broken(folder: Path, data: Path, count: int) -> list[str]:
    """The training pictures with ``count`` of them spoiled, all over the order; their names."""
    names = []
    for number, picture in enumerate(sorted((data / "train").rglob("*.png"))):
        name = picture.relative_to(data / "train")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        spoiled = number % 6 == 0 and len(names) < count
        (folder / name).write_bytes(b"no picture" if spoiled else picture.read_bytes())
        if spoiled:
            names.append(str(name))
    return names


def test_a_loss_that_is_not_finite_fails_the_run_once(tmp_path: Path, write: Write) -> None:
    need_horovod("gloo")
    spec = write(tmp_path, head={"plugin": "plugin:breaks"})
    ended = train(spec, 2)
    assert [one.code for one in ended] == [1, 1], ended[0].err + ended[1].err
    ends = [line for line in lines(tmp_path / "run" / "attempts.jsonl") if line["event"] == "end"]
    assert len(ends) == 1
    assert ends[0]["outcome"] == "failed"
    assert "failed:" not in ends[0]["message"]  # rank 0 has met it itself
    assert "the loss of step 7" in ends[0]["message"]


def test_a_rank_that_drifts_away_is_named(tmp_path: Path, write: Write) -> None:
    need_horovod("gloo")
    spec = write(tmp_path, **trouble(tmp_path, "drift", rank=1, at=3))
    ended = train(spec, 2)
    assert [one.code for one in ended] == [1, 1], ended[0].err + ended[1].err
    message = last_end(spec)["message"]
    assert "the replicas do not have the same weights after step" in message
    assert "rank 1 of 2 in head_dense_0/kernel" in message


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
