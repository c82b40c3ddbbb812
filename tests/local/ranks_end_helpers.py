"""Ranks of Horovod on which something goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.local.rank_helpers import (
    Ended,
    run_ranks,
)
from tests.local.training_helpers import (
    lines,
    write_spec,
)

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
