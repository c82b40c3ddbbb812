"""Going back where a value was not finite: how often, how far, and what a record has to say."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from harness.train.rollbacks import MOST, NotFinite, RollBack, RollBacks, in_a_row, in_force


def done(*pairs: tuple[int, int]) -> list[RollBack]:
    """Roll-backs from a bad step to that of a checkpoint."""
    return [
        {"step": step, "to_step": to_step, "rate_scale": 0.5**at, "time": "2026-01-01T00:00:00Z"}
        for at, (step, to_step) in enumerate(pairs, 1)
    ]


@pytest.mark.parametrize(
    ("pairs", "row"),
    [
        ([], 0),
        ([(10, 8)], 1),
        ([(10, 8), (10, 8)], 2),
        ([(10, 8), (9, 8), (12, 8)], 3),  # a little further is not past it: nothing was saved
        ([(10, 8), (14, 10)], 2),  # step 10 has not been done at the checkpoint of step 10
        ([(10, 8), (14, 11)], 1),
        ([(10, 8), (14, 8), (15, 12)], 3),  # 12 is past 10, not past 14
        ([(10, 8), (14, 8), (16, 15), (17, 15)], 2),
        ([(10, 8), (14, 12), (9, 4)], 2),  # a checkpoint went, and with it the way past 10
    ],
)
def test_how_many_are_in_a_row(pairs: list[tuple[int, int]], row: int) -> None:
    assert in_a_row(done(*pairs)) == row


A, B, C = done((10, 8), (10, 8), (20, 16))


@pytest.mark.parametrize(
    ("kept", "recorded", "step", "wanted"),
    [
        ([], [], 8, []),
        ([], [A], 8, [A]),  # killed right after it went back
        ([A], [A], 12, [A]),  # and after the next save
        ([A], [A, B], 8, [A, B]),
        ([], [A, B], 8, [A, B]),
        ([], [A, B, C], 8, [A, B]),  # the checkpoint of step 16 has gone, and C was back to it
        ([A], [], 12, [A]),  # a fork
        ([A], [C], 12, [A]),  # that had another course
        ([A], [B, A], 12, [A]),
        ([], [A], -1, []),  # begins anew
    ],
)
def test_which_hold_from_a_checkpoint_on(
    kept: list[RollBack], recorded: list[RollBack], step: int, wanted: list[RollBack]
) -> None:
    assert in_force(kept, recorded, step) == wanted


def made(recorded: list[RollBack]) -> tuple[RollBacks, list[list[RollBack]]]:
    """And what it has written to the record."""
    written: list[list[RollBack]] = []
    return RollBacks(True, lambda: recorded, written.append), written


def test_each_halves_the_rates_and_is_in_the_record_and_the_state() -> None:
    one, written = made([])
    assert (one.scale, one.left) == (1.0, MOST)
    one.add(10, 8)
    one.add(10, 8)
    one.record()
    assert (one.scale, one.left) == (0.25, MOST - 2)
    assert [(each["step"], each["to_step"], each["rate_scale"]) for each in written[0]] == [
        (10, 8, 0.5),
        (10, 8, 0.25),
    ]
    assert one.figures() == {"rollbacks": 2.0}
    other, _ = made([])
    one.planned = 8
    other.from_json(one.to_json())
    assert (other.done, other.planned) == (one.done, 8)


def test_after_the_last_one_none_is_left() -> None:
    one, _ = made([])
    for _ in range(MOST):
        assert one.left > 0
        one.add(10, 8)
    assert one.left == 0
    one.add(10, 8)
    assert one.left == -1


@pytest.mark.parametrize(
    ("state", "recorded", "step", "wanted", "corrects"),
    [
        ({}, [], 8, [], False),  # of a version before there were any
        ({"done": [A], "planned": 12}, [A, B], 12, [A, B], False),
        ({"done": [A], "planned": 12}, [], 12, [A], True),
        ({"done": [], "planned": 8}, [C], 8, [], True),
    ],
)
def test_a_start_takes_up_what_holds_and_corrects_the_record(
    state: dict[str, Any],
    recorded: list[RollBack],
    step: int,
    wanted: list[RollBack],
    corrects: bool,
) -> None:
    one, written = made(recorded)
    one.take_up(state, step)
    assert (one.done, one.planned) == (wanted, state.get("planned"))
    assert written == ([wanted] if corrects else [])


@pytest.mark.parametrize(
    ("kept", "recorded", "last"),
    [([], [], None), ([A], [A], None), ([], [A, B], B), ([A], [A, C], C), ([A], [], None)],
)
def test_the_last_since_a_checkpoint(
    kept: list[RollBack], recorded: list[RollBack], last: RollBack | None
) -> None:
    one, _ = made(recorded)
    assert one.since({"done": kept}) == last
    if not kept:
        assert one.since({}) == last


def test_where_it_is_not_wanted_lines_say_nothing_of_it() -> None:
    assert RollBacks().figures() == {}


def test_the_error_says_why_it_is_the_end() -> None:
    bad = NotFinite.at(7, "the loss of step 7")
    end = bad.ending("there is no checkpoint to go back to")
    assert (bad.step, end.step, end.exit_code) == (7, 7, 1)
    assert "got NaN or Inf in the loss of step 7; there is no checkpoint to go back to" in str(end)
    assert str(pickle.loads(pickle.dumps(end))) == str(end)
