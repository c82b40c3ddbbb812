"""Loss scaling: exact where all is finite, and a step that is not changes nothing."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from step_helpers import BATCH, Stepper, batches, poison  # noqa: E402

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.train import scaling  # noqa: E402
from harness.train.scaling import LossScale, ScaledSteps  # noqa: E402


def stepper(scale: LossScale, **options: Any) -> Stepper:
    return Stepper(SingleDevice(), kind=functools.partial(ScaledSteps, scaling=scale), **options)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_power_of_two_rounds_nothing(accumulate: int) -> None:
    """With dropout, class weights, a penalty, unreadable files and a ragged last batch."""
    given = batches(5)
    scaled = stepper(LossScale(), accumulate=accumulate).train(given)
    assert_same(scaled, Stepper(SingleDevice(), accumulate=accumulate).train(given))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_step_with_infinite_gradients_is_as_if_it_had_not_been(accumulate: int) -> None:
    given = batches(5, ragged=False)
    scale = LossScale()
    one = stepper(scale, accumulate=accumulate, dropout=0.0)
    found = one.train([*given[:2], poison(given[2], BATCH - 1), *given[3:]])
    other = stepper(LossScale(), accumulate=accumulate, dropout=0.0)
    wanted = other.train([*given[:2], *given[3:]])
    sums = {name for name in found if name.startswith("sum ")}
    assert_same(
        {name: value for name, value in found.items() if name not in sums},
        {name: value for name, value in wanted.items() if name not in sums},
    )
    assert int(one.optimizer.iterations.numpy()) == 4
    assert int(one.steps.step.numpy()) == 5
    assert found["sum count"] == wanted["sum count"] + BATCH - 1
    assert int(one.steps.first_bad.numpy()) == -1
    assert scale.to_json() == {"scale": 2.0**14, "good": 2, "skipped": 1, "row": 0}
    assert one.steps.own_figures() == {"loss_scale": 2.0**14, "skipped_steps": 1.0}
    assert one.steps.not_finite() is None


def test_a_scale_that_overflows_is_halved_until_it_fits() -> None:
    scale = LossScale()
    scale.from_json({"scale": 2.0**127, "good": 5, "skipped": 3, "row": 0})
    one = stepper(scale)
    before = [v.numpy() for v in one.keras.trainable_variables]
    given = batches(13, ragged=False)
    for each in given:
        each["weight"] *= 100.0
    one.train(given[:1])
    for variable, old in zip(one.keras.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    assert scale.to_json() == {"scale": 2.0**126, "good": 0, "skipped": 4, "row": 0}
    one.train(given[1:])
    assert scale.to_json()["good"] > 0
    changed = [v.numpy() for v in one.keras.trainable_variables]
    assert any((new != old).any() for new, old in zip(changed, before, strict=True))


def test_a_loss_that_is_not_finite_is_remembered_all_the_same() -> None:
    given = batches(3, ragged=False)
    given[1]["image"][0] = np.inf
    one = stepper(LossScale())
    one.train(given)
    assert one.steps.not_finite() == (1, "the loss of step 1")


def test_gradients_that_no_scale_makes_finite_are_an_end() -> None:
    scale = LossScale()
    scale.from_json({"scale": 2.0, "good": 0, "skipped": 0, "row": 0})
    one = stepper(scale)
    one.train([poison(each, 0) for each in batches(3, ragged=False)])
    assert scale.to_json() == {"scale": 1.0, "good": 0, "skipped": 3, "row": 2}
    said = "the gradients of step 1, which no loss scale makes finite"
    assert one.steps.not_finite() == (1, said)


@pytest.mark.parametrize(
    ("scale", "good", "finite", "wanted"),
    [
        (1024.0, 0, True, (1024.0, 1)),
        (1024.0, scaling.GROWS_AFTER - 2, True, (1024.0, scaling.GROWS_AFTER - 1)),
        (1024.0, scaling.GROWS_AFTER - 1, True, (2048.0, 0)),
        (scaling.HIGHEST, scaling.GROWS_AFTER - 1, True, (scaling.HIGHEST, 0)),
        (1024.0, 7, False, (512.0, 0)),
        (1.0, 7, False, (1.0, 0)),
    ],
)
def test_how_it_grows_and_shrinks(
    scale: float, good: int, finite: bool, wanted: tuple[float, int]
) -> None:
    kept = LossScale()
    kept.from_json({"scale": scale, "good": good, "skipped": 0, "row": 0})
    kept.note(tf.constant(finite), tf.constant(3, tf.int64))
    assert (kept.to_json()["scale"], kept.to_json()["good"]) == wanted
    assert kept.to_json()["skipped"] == (not finite)


def test_its_state_is_plain_and_comes_back() -> None:
    one, other = LossScale(), LossScale()
    one.from_json({"scale": 4096.0, "good": 17, "skipped": 2, "row": 5})
    other.from_json(one.to_json())
    assert other.to_json() == {"scale": 4096.0, "good": 17, "skipped": 2, "row": 5}


def skipping(patience: int = 3) -> LossScale:
    """That of ``training.nan: skip`` with float32."""
    return LossScale(fixed=True, patience=patience)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_by_wish_nothing_is_scaled(accumulate: int) -> None:
    given = batches(5)
    scale = skipping()
    one = stepper(scale, accumulate=accumulate)
    assert_same(one.train(given), Stepper(SingleDevice(), accumulate=accumulate).train(given))
    assert one.steps.own_figures() == {"skipped_steps": 0.0}
    assert float(scale.scale.numpy()) == 1.0


@pytest.mark.parametrize("what", ["gradient", "loss"])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_step_that_is_skipped_by_wish_leaves_no_trace(accumulate: int, what: str) -> None:
    """Neither in the weights nor in the sums of the metrics, whatever is not finite."""
    given = batches(5, ragged=False)
    bad = poison(given[2], BATCH - 1)
    if what == "loss":
        bad = {name: rows.copy() for name, rows in given[2].items()}
        bad["image"][1] = np.inf
    scale = skipping()
    one = stepper(scale, accumulate=accumulate, dropout=0.0)
    found = one.train([*given[:2], bad, *given[3:]])
    wanted = stepper(skipping(), accumulate=accumulate, dropout=0.0).train([*given[:2], *given[3:]])
    assert_same(found, wanted)
    assert one.steps.own_figures() == {"skipped_steps": 1.0}
    assert one.steps.not_finite() is None
    assert int(one.steps.step.numpy()) == 5


def test_too_many_in_a_row_are_an_end_and_others_are_not() -> None:
    good, bad = batches(1, ragged=False)[0], poison(batches(1, ragged=False)[0], 0)
    one = stepper(skipping(3))
    one.train([bad, bad, bad, good, bad, bad, bad, good])
    assert one.steps.not_finite() is None
    one.train([bad, bad, bad, bad, bad])
    said = "a loss or gradient in each of 4 steps in a row, the last 11"
    assert one.steps.not_finite() == (11, said)


def test_with_float16_the_scale_falls_before_steps_are_counted() -> None:
    scale = LossScale(patience=2)
    scale.from_json({"scale": 4.0, "good": 0, "skipped": 0, "row": 0})
    one = stepper(scale)
    bad = poison(batches(1, ragged=False)[0], 0)
    one.train([bad] * 4)
    assert scale.to_json() == {"scale": 1.0, "good": 0, "skipped": 4, "row": 2}
    assert one.steps.not_finite() is None
    one.train([bad])
    said = "a loss or gradient in each of 3 steps in a row, the last 4"
    assert one.steps.not_finite() == (4, said)


@pytest.mark.parametrize(("what", "where"), [("gradient", "gradients"), ("loss", "loss")])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_for_going_back_the_first_bad_step_is_seen(accumulate: int, what: str, where: str) -> None:
    """That of ``training.nan: rollback`` with float32: with no figures of its own, and anew once
    the counters are set, as where the run has gone back."""
    given = batches(4, ragged=False)
    bad = poison(given[2], 0)
    if what == "loss":
        bad = {name: rows.copy() for name, rows in given[2].items()}
        bad["image"][1] = np.inf
    scale = LossScale(fixed=True)
    one = stepper(scale, accumulate=accumulate)
    one.train(given[:2])
    assert one.steps.not_finite() is None
    one.train([bad, bad])
    assert one.steps.not_finite() == (2, f"the {where} of step 2")
    assert one.steps.own_figures() == {}
    one.steps.set_position(2, 2)
    scale.from_json(scale.to_json())
    assert one.steps.not_finite() is None
