"""Plans, positions, pace, best and early stopping: the pure parts of training."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.distribute.pace import Pace
from harness.errors import SpecError
from harness.spec import Duration
from harness.train.best import Best, EarlyStopping, mode_of, value_of
from harness.train.loop import Trainer
from harness.train.plan import Phase, Plan, scaled_rate
from harness.train.position import Position


def phase(index: int = 0, epochs: int = 3, steps_per_epoch: int = 5) -> Phase:
    return Phase(
        index=index,
        name=f"phase{index}",
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        image_size=32,
        learning_rate=1e-3,
        warmup_steps=0,
        schedule="constant",
        start_from="last",
    )


@pytest.mark.parametrize(
    ("rule", "replicas", "rate"),
    [("none", 8, 0.1), ("linear", 8, 0.8), ("sqrt", 4, 0.2), ("linear", 1, 0.1)],
)
def test_scaled_rate(rule, replicas, rate):
    assert scaled_rate(0.1, rule, replicas) == pytest.approx(rate)


def test_scaled_rate_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="was 'cubic'"):
        scaled_rate(0.1, "cubic", 2)


def test_plan_adds_up():
    plan = Plan((phase(0, 3, 5), phase(1, 2, 7)))
    assert plan.total_steps == 29
    assert plan.total_epochs == 5


@given(st.integers(1, 6), st.integers(1, 9), st.data())
def test_any_way_through_a_phase_passes_the_same_epoch_ends(epochs, steps_per_epoch, data):
    one = phase(0, epochs, steps_per_epoch)
    position, ends = Position(), []
    while position.phase_step < one.steps:
        count = data.draw(st.integers(1, position.left_in_epoch(one)))
        position = position.forward(count, one)
        if not position.validated:
            ends.append(position.step)
            position = position.after_validation()
    assert ends == [steps_per_epoch * (e + 1) for e in range(epochs)]
    after = position.next_phase(one)
    assert (after.phase, after.phase_step, after.epoch) == (1, 0, epochs)


@given(st.integers(0, 10**9), st.integers(0, 9), st.integers(0, 10**6), st.booleans())
def test_a_position_survives_the_checkpoint(step, index, epoch, validated):
    position = Position(step, index, step, epoch, validated)
    assert Position.from_json(position.to_json()) == position


def test_a_phase_left_early_counts_the_epochs_it_began():
    one = phase(0, 10, 4)
    position = Position().forward(4, one).after_validation().forward(4, one).after_validation()
    assert position.next_phase(one).epoch == 2
    cut = position.forward(1, one).before_validation()
    assert cut.last_epoch(one) == 2
    assert cut.after_validation().next_phase(one).epoch == 3


def test_pace_grows_to_the_call_time_and_keeps_limits():
    pace = Pace(call_seconds=1.0)
    assert pace.next(100) == 1
    pace.done(1, 30.0)  # compiles: does not count
    counts = []
    for _ in range(10):
        count = pace.next(1000)
        counts.append(count)
        pace.done(count, count * 0.01)
    assert counts == [1, 2, 4, 8, 16, 32, 64, 100, 100, 100]
    assert pace.next(1000, 7) == 7
    assert pace.step_seconds == pytest.approx(0.01)


def test_pace_slows_down_when_steps_do():
    pace = Pace(call_seconds=1.0)
    pace.done(1, 1.0)
    for _ in range(12):
        count = pace.next(10**6)
        pace.done(count, count * 0.001)
    pace.done(pace.next(10**6), 100.0)
    assert pace.next(10**6) < 50
    pace.restart()
    before = pace.step_seconds
    pace.done(1, 60.0)
    assert pace.step_seconds == before


def test_ranks_of_unequal_speed_take_the_steps_of_the_first():
    """Each has its own measurements; what is agreed on is what rank 0 would have done alone."""
    told = []

    def first(mine):
        told.append(mine)
        return mine

    alone, leading = Pace(1.0), Pace(1.0, first)
    following = Pace(1.0, lambda mine: told[-1])
    for call in range(40):
        limits = (1000 - call, 37 + call % 5)
        steps = [pace.next(*limits) for pace in (alone, leading, following)]
        assert len(set(steps)) == 1
        alone.done(steps[0], 0.01 * steps[0])
        leading.done(steps[0], 0.01 * steps[0])
        following.done(steps[0], 0.2 * steps[0])
        if call == 20:
            for pace in (alone, leading, following):
                pace.restart()
    assert max(told) > 20
    assert following.step_seconds == pytest.approx(0.2)


def test_what_is_agreed_on_is_asked_for_once_a_call():
    """It is a collective: all ranks make as many."""
    asked = []
    pace = Pace(1.0, lambda mine: asked.append(mine) or mine)
    assert [pace.next(5), pace.next(1, 2), pace.next(0)] == [1, 1, 1]
    assert asked == [1, 1, 1]


@pytest.mark.parametrize(
    ("metric", "mode", "expected"),
    [
        ("val_loss", "auto", "min"),
        ("val_accuracy", "auto", "max"),
        ("val_rmse", "auto", "min"),
        ("val_loss", "max", "max"),
    ],
)
def test_mode_of(metric, mode, expected):
    assert mode_of(metric, mode) == expected


def test_value_of_names_what_there_is():
    with pytest.raises(SpecError, match="allowed: accuracy, loss"):
        value_of({"loss": 1.0, "accuracy": 0.5}, "val_f1", "checkpoint.best.metric")


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
def test_best_is_the_best_finite_value_and_the_first_of_equals(values):
    best = Best("val_accuracy", "max")
    for step, value in enumerate(values):
        best.update(value, step)
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        assert best.value is None
    else:
        assert best.value == max(finite)
        assert values.index(max(finite)) == best.step


def test_best_counts_only_improvements_of_min_delta():
    best = Best("val_loss", "auto", min_delta=0.1)
    assert best.update(1.0, 1)
    assert not best.update(0.95, 2)
    assert best.update(0.8, 3)
    again = Best("val_loss", "auto", min_delta=0.1)
    again.from_json(best.to_json())
    assert (again.value, again.step) == (0.8, 3)
    other = Best("val_f1")
    other.from_json(best.to_json())
    assert other.value is None


@pytest.mark.parametrize(
    ("patience", "losses", "epochs"),
    [(1, [3, 2, 2], 3), (2, [3, 2, 2, 1, 1, 1], 6), (3, [1, 2, 3, 4], 4)],
)
def test_early_stopping_waits_as_keras_does(patience, losses, epochs):
    import tf_keras

    ours = EarlyStopping(Best("val_loss"), patience)
    theirs = tf_keras.callbacks.EarlyStopping("val_loss", patience=patience)
    model = tf_keras.Sequential([tf_keras.layers.Dense(1)])
    theirs.set_model(model)
    theirs.on_train_begin()
    model.stop_training = False
    over = []
    for epoch, loss in enumerate(losses):
        ours.update(float(loss), epoch)
        theirs.on_epoch_end(epoch, {"val_loss": float(loss)})
        over.append((ours.over, model.stop_training))
        if ours.over:
            break
    assert all(a == b for a, b in over)
    assert len(over) == epochs


def test_early_stopping_goes_on_where_it_was_and_restarts_with_a_phase():
    early = EarlyStopping(Best("val_loss"), 2)
    for value in (1.0, 2.0):
        early.update(value, 1)
    again = EarlyStopping(Best("val_loss"), 2)
    again.from_json(early.to_json())
    again.update(3.0, 2)
    assert again.over
    again.restart()
    assert not again.over
    assert again.best.value is None


@pytest.mark.parametrize(
    ("every", "done", "before", "left"),
    [
        # 14 steps of a phase before, then epochs of 28.
        ("1 epochs", 14, 0, 28),
        ("1 epochs", 14, 28, 28),
        ("1 epochs", 14, 30, 26),
        ("50%", 14, 41, 1),
        ("10 steps", 14, 0, 6),
        ("10 steps", 14, 6, 10),
    ],
)
def test_epochs_are_those_of_the_phase_and_steps_those_of_the_run(every, done, before, left):
    one = phase(1, 3, 28)
    trainer = SimpleNamespace(position=Position(done + before, 1, before, 1))
    assert Trainer._left(trainer, Duration.parse(every), one) == left
