"""A small job to train for real, in this process or in one of its own that can be killed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.main import main
from tests.local.warm import HARNESS, Warm, can_be_warm

CLASSES = ("blue", "green", "red")

# A callback that slows every call down (so that there is time to send a signal) and, in the
# attempt that finds no mark yet, kills its own process once a step is reached.
MISCHIEF = '''
import os, pathlib, signal, time
import tf_keras
from harness.plugins import register

@register("callback", "mischief")
class Mischief(tf_keras.callbacks.Callback):
    """Sleeps after every call; sends itself a signal at a step, once."""

    def __init__(self, sleep_s=0.0, at=None, number=9, mark=None):
        super().__init__()
        self.sleep_s, self.at, self.number, self.mark = sleep_s, at, number, mark
        self.calls = 0

    def on_train_batch_end(self, batch, logs=None):
        self.calls += 1
        time.sleep(self.sleep_s)
        step = int(self.model.optimizer.iterations.numpy())
        if self.at is not None and step >= self.at and not pathlib.Path(self.mark).exists():
            pathlib.Path(self.mark).touch()
            os.kill(os.getpid(), self.number)

    def get_state(self):
        return {"calls": 0}

    def set_state(self, state):
        pass
'''


def write_spec(folder: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    """A spec with two phases, dropout, augmentation and class weights; dotted changes on top."""
    (folder / "mischief.py").write_text(MISCHIEF)
    spec: dict[str, Any] = {
        "harness_spec": 1,
        "name": "tiny",
        "backbone": {"handle": f"hub:{backbone}"},
        "data": {
            "train": str(data / "train"),
            "validation": {"fraction": 0.25},
            "test": str(data / "test"),
            "image_size": 16,
            "augment": {"flip": "horizontal", "brightness": 0.1},
            "balance": "class_weights",
        },
        "head": {"hidden": [8], "dropout": 0.3},
        "training": {
            "batch_size": 8,
            "seed": 3,
            "deterministic": True,
            "optimizer": {"name": "adam"},
            "feature_cache": "off",
            "phases": [
                {"name": "one", "epochs": 3, "learning_rate": 0.01},
                {"name": "two", "epochs": 3, "learning_rate": 0.003, "start_from": "best"},
            ],
        },
        "logging": {"every": "2 steps", "images": False},
        "checkpoint": {"every": "3 steps", "keep": 3},
        "cluster": {"device": "cpu"},
    }
    for path, value in changes.items():
        *parents, last = path.split(".")
        at = spec
        for part in parents:
            at = at.setdefault(part, {})
        at[last] = value
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    return file


def mischief(folder: Path, **options: Any) -> dict[str, Any]:
    """Changes for :func:`write_spec` that add the callback."""
    options.setdefault("mark", str(folder / "mark"))
    return {
        "plugins": [str(folder / "mischief.py")],
        "training.callbacks": [{"plugin": "mischief", "options": options}],
    }


def start(*arguments: str, cold: bool = False, **environment: str) -> subprocess.Popen[str]:
    """``harness ARGUMENTS`` in a process of its own.

    Args:
        cold: also with imports of its own, see :mod:`tests.local.warm`.
    """
    command, variables = [*HARNESS, *arguments], {**os.environ, **environment}
    warm = not cold and can_be_warm(command, variables)
    return (Warm if warm else subprocess.Popen)(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 240) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a started process."""
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def call(*arguments: str, cold: bool = False, **environment: str) -> tuple[int, str, str]:
    """Starts a process and waits for its end."""
    return finish(start(*arguments, cold=cold, **environment))


def run_here(spec: Path, cache: Path, *more: str, code: int = 0, alone: bool = False) -> str:
    """What a run in ``run`` beside ``spec`` says.

    Args:
        alone: in a process of its own.
    """
    command = ("run", str(spec), "--run-dir", str(spec.parent / "run"), *more)
    if alone:
        found, _, err = call(*command, HARNESS_CACHE=str(cache))
    else:
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
            patch.setenv("HARNESS_CACHE", str(cache))
            found = main(command)
        err = said.getvalue()
    assert found == code, err
    assert "Traceback" not in err
    return err


def record(spec: Path) -> dict[str, Any]:
    return dict(json.loads((spec.parent / "run" / "run.json").read_text()))


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def final_tensors(run: Path) -> dict[str, Any]:
    """The arrays of the newest checkpoint of a run."""
    import tensorflow as tf

    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    reader = tf.train.load_checkpoint(str(newest / "tensors"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_result(one: Path, other: Path) -> None:
    """Two runs ended with the same bits and one curve each."""
    import numpy as np

    first, second = final_tensors(one), final_tensors(other)
    assert first.keys() == second.keys()
    assert any(name.startswith("model/") for name in first)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert curve(one) == curve(other)


def assert_equal_losses(one: Path, other: Path, relative: float = 1e-5) -> None:
    """Two runs have the same lines of metrics; losses may differ by what another
    order of float32 sums does, and nothing else.
    """
    import numpy as np

    first, second = ([dict(line) for line in curve(run)] for run in (one, other))
    assert len(first) == len(second) > 0
    for line, same in zip(first, second, strict=True):
        np.testing.assert_allclose(line.pop("loss"), same.pop("loss"), rtol=relative)
        assert line == same


def curve(run: Path) -> list[tuple[Any, ...]]:
    """Every metric line without its time and attempt; asserts that no place comes twice."""
    found = lines(run / "metrics.jsonl")
    places = [(line["step"], line["split"], line.get("epoch_end", False)) for line in found]
    assert len(set(places)) == len(places), "a step was written twice"
    assert places == sorted(places, key=lambda place: place[0]), "steps go back"
    for line in found:
        del line["time"], line["attempt"]
    return [tuple(sorted(line.items())) for line in found]


def checkpoint_steps(run: Path) -> Sequence[int]:
    """Steps of the committed checkpoints."""
    return sorted(int(path.name.split("-")[1]) for path in (run / "checkpoints").glob("step-*"))
