"""Splits by group: no group on two sides, every class on both where groups allow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.index import ExampleIndex
from harness.data.split import draws, name_key, refuse_shared_groups, split_validation
from harness.errors import DataError, SpecError


def index_of(rows: list[tuple[str, str]]) -> ExampleIndex:
    """An index of (group, class) rows; names are their numbers."""
    classes = tuple(sorted({label for _, label in rows}))
    names = [f"{number:06}.png" for number in range(len(rows))]
    labels = [classes.index(label) for _, label in rows]
    groups = [group for group, _ in rows]
    return ExampleIndex(Path("/data"), names, labels, classes, (), "digest", groups=groups)


def held(index: ExampleIndex, fraction: float = 0.2, seed: int = 1) -> set[str]:
    """The groups that are held back."""
    return set(split_validation(index, fraction, seed)[1].groups)


def drawn(groups: list[str], seed: int) -> dict[str, float]:
    keys = np.array([name_key(group) for group in groups], np.uint64)
    return dict(zip(groups, draws(keys, seed).tolist(), strict=True))


rows_of_groups = st.lists(
    st.tuples(st.integers(0, 30).map(lambda n: f"p{n}"), st.sampled_from("abcd")), min_size=4
)


@given(rows_of_groups, st.floats(0.01, 0.99), st.integers(0, 2**63 - 1))
def test_no_group_is_on_two_sides_and_every_class_in_training(rows, fraction, seed):
    index = index_of(rows)
    groups = {label: {g for g, other in rows if other == label} for _, label in rows}
    if not any(all(len(groups[x]) > 1 for y, x in rows if y == g) for g, _ in rows):
        # Each group is needed in training by one of its classes.
        with pytest.raises(DataError, match="no group can be held back"):
            split_validation(index, fraction, seed)
        return
    train, validation = split_validation(index, fraction, seed)
    assert sorted([*train.names, *validation.names]) == index.names
    assert not set(train.groups) & set(validation.groups)
    assert all(train.counts().values()) and len(validation)
    for name, count in validation.counts().items():
        assert count or any(f"{name!r} has no group to spare" in note for note in validation.notes)


@given(rows_of_groups, st.floats(0.05, 0.95), st.integers(0, 2**63 - 1))
def test_what_is_held_back_is_what_is_drawn_but_for_classes_of_one_side(rows, fraction, seed):
    index = index_of(rows)
    draw = drawn(sorted({group for group, _ in rows}), seed)
    low = {group for group, value in draw.items() if value < fraction}
    sides = {label: {group in low for group, other in rows if other == label} for _, label in rows}
    if all(len(side) == 2 for side in sides.values()):
        assert held(index, fraction, seed) == low


def test_adding_groups_moves_none():
    rows = [(f"p{n}", "ab"[n % 2]) for n in range(400)]
    more = [*rows, *((f"q{n}", "abc"[n % 3]) for n in range(300))]
    before, after = held(index_of(rows)), held(index_of(more))
    assert before == {group for group in after if group.startswith("p")}


def test_more_examples_of_a_group_move_nothing():
    rows = [(f"p{n}", "ab"[n % 2]) for n in range(60)]
    assert held(index_of(rows)) == held(index_of(rows * 3 + rows[:7]))


def test_share_of_the_groups_is_the_fraction_on_average():
    rows = [(f"p{n}", "ab"[n % 2]) for n in range(4000)]
    # Five standard deviations of a binomial draw.
    assert abs(len(held(index_of(rows), 0.1)) - 400) < 5 * (4000 * 0.09) ** 0.5
    assert held(index_of(rows), 0.1, 1) != held(index_of(rows), 0.1, 2)


@settings(max_examples=30)
@given(st.integers(0, 2**63 - 1), st.sampled_from([0.01, 0.5, 0.99]))
def test_two_groups_of_a_class_are_one_on_each_side(seed, fraction):
    rows = [("p1", "a"), ("p2", "a"), ("p3", "b"), ("p4", "b"), ("p4", "b")]
    _, validation = split_validation(index_of(rows), fraction, seed)
    assert len(set(validation.groups) & {"p1", "p2"}) == 1
    assert len(set(validation.groups) & {"p3", "p4"}) == 1
    assert not validation.notes


def test_a_class_of_one_group_stays_in_training_and_is_said():
    rows = [("p1", "a"), ("p1", "a"), ("p2", "b"), ("p3", "b")]
    train, validation = split_validation(index_of(rows), 0.5, 1)
    assert train.counts()["a"] == 2 and validation.counts()["a"] == 0
    assert validation.notes == (
        "class 'a' has no group to spare: it stays in training, not in validation",
    )


def test_nothing_to_hold_back_is_refused():
    with pytest.raises(DataError, match="no group can be held back"):
        split_validation(index_of([("p1", "a"), ("p2", "b")] * 5), 0.5, 1)
    with pytest.raises(SpecError, match=r"data\.validation\.fraction"):
        split_validation(index_of([("p1", "a"), ("p2", "a"), ("p3", "b")]), 1.0, 1)


def test_golden_groups():
    # Part of the format: a resumed or repeated run must hold back the same groups.
    rows = [(f"patient {n}", "ab"[n % 2]) for n in range(20)]
    assert sorted(held(index_of(rows), 0.25, 3)) == GOLDEN


GOLDEN = ["patient 11", "patient 15", "patient 6", "patient 7"]


def test_a_group_on_two_given_sides_is_refused_by_name():
    def part(*groups: str) -> ExampleIndex:
        return index_of([(group, "a") for group in groups])

    sets = {"train": part("p1", "p2"), "validation": part("p3"), "test": part("p4", "p5")}
    refuse_shared_groups(sets)
    sets |= {"validation": part("p3", "p2"), "test": part("p3", "p1", "p2")}
    with pytest.raises(DataError) as caught:
        refuse_shared_groups(sets)
    assert [(problem.what, problem.got) for problem in caught.value.problems] == [
        ("1 group both in train and in validation", "'p2'"),
        ("2 groups both in train and in test", "'p1', 'p2'"),
        ("2 groups both in validation and in test", "'p2', 'p3'"),
    ]
    with pytest.raises(DataError) as caught:
        refuse_shared_groups(sets, hide=True)
    assert "'p" not in str(caught.value)
