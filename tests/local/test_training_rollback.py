"""``training.nan: rollback``: back to the last checkpoint and on with lower rates, on any number of
ranks, to the bits of a run that nobody disturbs."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import Ended, assert_all, run_ranks, run_workers
from tests.local.rollback_helpers import write
from tests.local.training_helpers import (
    CLASSES,
    assert_equal_losses,
    assert_same_result,
    call,
    checkpoint_steps,
    curve,
    final_tensors,
    lines,
    record,
)

UNFROZEN = [
    {"name": "one", "epochs": 3, "learning_rate": 0.01},
    {"name": "two", "epochs": 1, "learning_rate": 0.003, "unfreeze": "all"},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


def command(spec: Path) -> list[str]:
    return ["run", str(spec), "--run-dir", str(spec.parent / "run")]


def finished(spec: Path, *more: str) -> str:
    code, _, err = call(*command(spec), *more)
    assert code == 0, err
    return err


def went(spec: Path) -> list[tuple[int, int, float]]:
    return [(one["step"], one["to_step"], one["rate_scale"]) for one in record(spec)["rollbacks"]]


def assert_finite(spec: Path) -> None:
    for name, tensor in final_tensors(spec.parent / "run").items():
        assert np.isfinite(tensor).all(), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_backbone, data) -> Path:
    """A run that goes back twice from step 7 to step 6."""
    spec = write(tmp_path_factory.mktemp("undisturbed"), tiny_backbone, data)
    err = finished(spec)
    assert "NaN or Inf in the loss of step 7: goes back from step 7 to the checkpoint of " in err
    assert "step 6; learning rates are 0.25 of those of the spec now; 3 of 5 roll-backs" in err
    return spec


def test_a_run_gets_past_it_with_lower_rates(undisturbed: Path) -> None:
    assert went(undisturbed) == [(7, 6, 0.5), (7, 6, 0.25)]
    told = lines(undisturbed.parent / "run" / "metrics.jsonl")
    train = [line for line in told if line["split"] == "train"]
    rates = {line["step"]: (line["learning_rate"], line["rollbacks"]) for line in train}
    assert rates[6] == (pytest.approx(0.01), 0)
    assert rates[7] == (pytest.approx(0.0025), 2)
    assert rates[24] == (pytest.approx(0.00075), 2)
    assert all(np.isfinite(line["loss"]) for line in told)
    assert len(curve(undisturbed.parent / "run")) == len(told)
    assert_finite(undisturbed)
    code, out, _ = call("status", str(undisturbed.parent / "run"))
    assert code == 0
    assert "It went back 2 times, the last time from step 7 to step 6, where a value was not" in out


@pytest.mark.parametrize(("begun", "at"), [(2, 6), (3, 6), (3, 7), (3, 10)])
def test_killed_after_it_went_back_it_ends_the_same(
    begun, at, tmp_path, tiny_backbone, data, undisturbed
) -> None:
    """Before the second time, right after it, a step later, and after the next save."""
    spec = write(tmp_path, tiny_backbone, data, ends=[(begun, at, signal.SIGKILL)])
    assert call(*command(spec))[0] == -signal.SIGKILL
    count = begun - 1
    assert len(went(spec)) == count
    times = {1: "once", 2: "2 times"}[count]
    assert f"since it was rolled back (training.nan), {times}" in finished(spec)
    assert went(spec) == went(undisturbed)
    assert_same_result(spec.parent / "run", undisturbed.parent / "run")


def test_stopped_in_between_it_goes_back_to_where_others_go(
    tmp_path, tiny_backbone, data, undisturbed
) -> None:
    """Not to the checkpoint of its stop, which a run that nobody stops does not have; that one is
    gone then."""
    ends = [(1, 7, signal.SIGTERM)]
    spec = write(tmp_path, tiny_backbone, data, ends=ends, **{"checkpoint.keep": 1})
    assert call(*command(spec))[0] == 75
    assert max(checkpoint_steps(spec.parent / "run")) == 7
    assert "removing step-00000007: training went back to before it" in finished(spec)
    assert went(spec) == went(undisturbed)
    assert_same_result(spec.parent / "run", undisturbed.parent / "run")


def test_killed_before_that_one_is_gone_it_is_not_taken_up(
    tmp_path, tiny_backbone, data, undisturbed
) -> None:
    ends = [(1, 7, signal.SIGTERM), (2, 6, signal.SIGKILL)]
    spec = write(tmp_path, tiny_backbone, data, ends=ends)
    left = tmp_path / "run" / "checkpoints" / "step-00000007"
    assert call(*command(spec))[0] == 75
    shutil.copytree(left, tmp_path / "kept")
    assert call(*command(spec))[0] == -signal.SIGKILL
    assert not left.exists()
    shutil.copytree(tmp_path / "kept", left)
    assert "continues from the checkpoint of step 6" in finished(spec)
    assert went(spec) == went(undisturbed)
    assert_same_result(spec.parent / "run", undisturbed.parent / "run")


def test_back_in_an_earlier_phase_nothing_of_the_later_one_is_left(
    tmp_path, tiny_backbone, data
) -> None:
    """Weights, moments and averages of what only the later phase trains are as a new process has
    them."""
    more = {"training.phases": UNFROZEN, "training.ema": {"decay": 0.9}}
    bad = (14, 0.002)
    whole = write(tmp_path / "whole", tiny_backbone, data, bad, **more)
    finished(whole)
    assert went(whole) == [(14, 12, 0.5)]
    ends = [(2, 12, signal.SIGKILL)]
    killed = write(tmp_path / "killed", tiny_backbone, data, bad, ends, **more)
    assert call(*command(killed))[0] == -signal.SIGKILL
    finished(killed)
    assert went(killed) == [(14, 12, 0.5)]
    assert_same_result(whole.parent / "run", killed.parent / "run")


def test_features_that_are_read_again_are_the_same(tmp_path, tiny_backbone, data) -> None:
    """Else a deterministic run would end here, and any other say that it is not exact."""
    spec = write(tmp_path, tiny_backbone, data, **{"training.feature_cache": {"copies": 2}})
    finished(spec)
    assert len(went(spec)) == 2
    assert record(spec)["exact"] is True and record(spec)["feature_cache"]


def test_before_the_first_save_it_begins_anew(tmp_path, tiny_backbone, data) -> None:
    spec = write(tmp_path, tiny_backbone, data, (1, 0.006))
    finished(spec)
    assert went(spec) == [(1, 0, 0.5)]


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path, tiny_backbone, data) -> None:
    spec = write(tmp_path, tiny_backbone, data, (7, 0.006), hidden=True)
    err = finished(spec)
    assert "/seen at step 9: goes back from step 8 to the checkpoint of step 6" in err
    assert went(spec) == [(8, 6, 0.5)]
    assert_finite(spec)


def test_five_times_in_vain_it_fails(tmp_path, tiny_backbone, data) -> None:
    spec = write(tmp_path, tiny_backbone, data, (7, 0.0))
    code, _, err = call(*command(spec))
    assert code == 1
    assert "NaN or Inf in the loss of step 7; it went back 5 times without getting past" in err
    assert "to 0.03125 of its learning rates" in err
    assert went(spec) == [(7, 6, 0.5**count) for count in range(1, 6)]
    assert (tmp_path / "run" / "FAILED").exists()
    assert max(checkpoint_steps(tmp_path / "run")) == 6
    assert_finite(spec)
    code, _, err = call(*command(spec))
    assert code == 1, "the same command begins no new row"
    assert len(went(spec)) == 5


@pytest.mark.parametrize("how", ["horovod", "multiworker", "mirrored"])
def test_all_replicas_go_back_together_and_a_kill_changes_nothing(
    how, tmp_path, tiny_backbone, data, undisturbed
) -> None:
    if how == "horovod":
        need_horovod("gloo")

    def ended(spec: Path) -> list[Ended]:
        asked = [*command(spec), "-o", f"cluster.strategy={how}"]
        if how == "mirrored":
            return [Ended(*call(*asked, "-o", "cluster.replicas_per_rank=2"))]
        run = run_ranks if how == "horovod" else run_workers
        return run(tmp_path / "logs", 2, *asked)

    whole = write(tmp_path / "whole", tiny_backbone, data)
    killed = write(tmp_path / "killed", tiny_backbone, data, ends=[(2, 6, signal.SIGKILL)])
    assert_all(ended(whole))
    assert {one.code for one in ended(killed)} != {0}
    assert len(went(killed)) == 1
    assert_all(ended(killed))
    assert went(whole) == went(killed) == went(undisturbed)
    assert_equal_losses(whole.parent / "run", undisturbed.parent / "run")
    assert_same_result(whole.parent / "run", killed.parent / "run")
