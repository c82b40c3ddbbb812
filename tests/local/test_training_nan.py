"""``training.nan: skip``: steps whose loss is not finite change nothing, on any number of ranks."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import assert_all, run_ranks
from tests.local.training_helpers import (
    CLASSES,
    MISCHIEF,
    assert_equal_losses,
    assert_same_result,
    call,
    final_tensors,
    lines,
    mischief,
    write_spec,
)

BAD = (4, 7, 14)
# In some steps the loss of one row is not a number: of the first replica only, if there are more.
BREAKS = f"""
import tensorflow as tf
import tf_keras
from harness.plugins import register

class Breaks(tf_keras.layers.Layer):
    def __init__(self, draws):
        super().__init__()
        self.draws = draws

    def call(self, x, training=False):
        if not training:
            return x
        bad = tf.reduce_any(tf.equal(self.draws.step, {list(BAD)!r}))
        bad = tf.logical_and(bad, tf.equal(self.draws.distribution.replica(), 0))
        first = tf.cast(tf.equal(tf.range(tf.shape(x)[0]), 0), x.dtype)[:, None]
        return x * (1.0 + first * tf.where(bad, float("nan"), 0.0))

@register("head", "breaks")
def breaks(features, outputs, draws):
    return Breaks(draws)(tf_keras.layers.Dense(outputs)(features))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


def write(folder: Path, backbone: Path, data: Path, at: int | None = None, **more) -> Path:
    folder.mkdir(exist_ok=True)
    changes = mischief(folder, at=at, number=int(signal.SIGKILL))
    changes |= {"plugins": [str(folder / "both.py")], "head": {"plugin": "plugin:breaks"}}
    spec = write_spec(folder, backbone, data, **changes, **{"training.nan": "skip", **more})
    (folder / "both.py").write_text(MISCHIEF + BREAKS)
    return spec


def command(spec: Path) -> list[str]:
    return ["run", str(spec), "--run-dir", str(spec.parent / "run")]


@pytest.fixture(scope="module")
def skipped(tmp_path_factory, tiny_backbone, data) -> Path:
    spec = write(tmp_path_factory.mktemp("skipped"), tiny_backbone, data)
    code, _, err = call(*command(spec))
    assert code == 0, err
    return spec.parent / "run"


def test_a_run_goes_on_past_such_steps_and_says_how_many(skipped: Path) -> None:
    told = [line for line in lines(skipped / "metrics.jsonl") if line["split"] == "train"]
    by_step = {line["step"]: line["skipped_steps"] for line in told}
    assert {step: by_step[step] for step in (4, 6, 8, 14, 16)} == {4: 0, 6: 1, 8: 2, 14: 2, 16: 3}
    assert all(np.isfinite(line["loss"]) for line in told)
    for name, tensor in final_tensors(skipped).items():
        assert np.isfinite(tensor).all(), name


def test_a_line_whose_steps_were_all_skipped_has_no_loss(tmp_path, tiny_backbone, data) -> None:
    spec = write(tmp_path, tiny_backbone, data)
    (tmp_path / "both.py").write_text(MISCHIEF + BREAKS.replace(repr(list(BAD)), "[4, 5]"))
    code, _, err = call(*command(spec))
    assert code == 0, err
    told = lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in told if "loss" not in line] == [6]


def test_without_it_the_run_fails_and_is_never_saved(tmp_path, tiny_backbone, data) -> None:
    spec = write(tmp_path, tiny_backbone, data, **{"training.nan": "halt"})
    code, _, err = call(*command(spec))
    assert code == 1
    assert f"the loss of step {BAD[0]}" in err


def test_killed_between_two_of_them_it_ends_the_same(
    tmp_path, tiny_backbone, data, skipped
) -> None:
    spec = write(tmp_path, tiny_backbone, data, at=11)
    assert call(*command(spec))[0] == -signal.SIGKILL
    code, _, err = call(*command(spec))
    assert code == 0, err
    assert_same_result(spec.parent / "run", skipped)


def test_compiled_by_xla_it_skips_the_same_steps(tmp_path, tiny_backbone, data, skipped) -> None:
    spec = write(tmp_path, tiny_backbone, data, **{"training.jit_compile": True})
    code, _, err = call(*command(spec))
    assert code == 0, err
    assert_equal_losses(spec.parent / "run", skipped, 1e-4)


@pytest.mark.parametrize("how", ["horovod", "mirrored"])
def test_what_one_replica_meets_all_skip(how, tmp_path, tiny_backbone, data, skipped) -> None:
    spec = write(tmp_path, tiny_backbone, data)
    if how == "horovod":
        need_horovod("gloo")
        assert_all(
            run_ranks(tmp_path / "logs", 2, *command(spec), "-o", "cluster.strategy=horovod")
        )
    else:
        two = ("-o", "cluster.strategy=mirrored", "-o", "cluster.replicas_per_rank=2")
        code, _, err = call(*command(spec), *two)
        assert code == 0, err
    assert_equal_losses(spec.parent / "run", skipped)
