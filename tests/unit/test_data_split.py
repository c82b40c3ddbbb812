"""The validation split: stratified, seeded, stable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.index import ExampleIndex
from harness.data.split import held_back, name_key, split_validation
from harness.errors import DataError, SpecError


def index_of(counts: dict[str, int], suffix: str = "") -> ExampleIndex:
    names = sorted(f"{name}/{i:06}{suffix}.jpg" for name, n in counts.items() for i in range(n))
    classes = tuple(sorted(counts))
    labels = [classes.index(name.split("/")[0]) for name in names]
    return ExampleIndex(Path("/data"), names, labels, classes, (), "digest")


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(2, 60), min_size=2),
    st.floats(0.001, 0.999),
    st.integers(0, 2**63 - 1),
)
def test_every_example_is_on_one_side_and_every_class_on_both(counts, fraction, seed):
    index = index_of(counts)
    train, validation = split_validation(index, fraction, seed)
    assert sorted([*train.names, *validation.names]) == index.names
    for part in (train, validation):
        assert part.names == sorted(part.names)
        assert all(part.counts().values())
        assert [index.classes[label] for label in part.labels] == [n[0] for n in part.names]


def test_adding_examples_moves_none():
    counts = {"a": 300, "b": 300}
    _, before = split_validation(index_of(counts), 0.2, 7)
    more = index_of({"a": 500, "b": 301, "c": 50})
    train, after = split_validation(more, 0.2, 7)
    old = set(index_of(counts).names)
    assert set(before.names) == set(after.names) & old
    assert not set(before.names) & set(train.names)


def test_share_is_the_fraction_in_every_class_on_average():
    _, validation = split_validation(index_of({"a": 20_000, "b": 5_000}), 0.1, 1)
    counts = validation.counts()
    # Five standard deviations of a binomial draw.
    assert abs(counts["a"] - 2_000) < 5 * (20_000 * 0.09) ** 0.5
    assert abs(counts["b"] - 500) < 5 * (5_000 * 0.09) ** 0.5


def test_seeds_give_other_splits_and_the_same_seed_the_same():
    index = index_of({"a": 200, "b": 200})
    first = split_validation(index, 0.3, 1)[1]
    assert first.names == split_validation(index, 0.3, 1)[1].names
    assert first.names != split_validation(index, 0.3, 2)[1].names


def test_a_class_of_one_stays_in_training_and_is_said():
    train, validation = split_validation(index_of({"a": 1, "b": 50}), 0.5, 1)
    assert train.counts()["a"] == 1 and validation.counts()["a"] == 0
    assert "'a' has one example" in validation.notes[0]


def test_nothing_to_split_is_refused():
    with pytest.raises(DataError, match="two examples"):
        split_validation(index_of({"a": 1, "b": 1}), 0.5, 1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 5])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(SpecError, match=r"data\.validation\.fraction"):
        split_validation(index_of({"a": 5, "b": 5}), fraction, 1)


GOLDEN = [
    "a/000001.jpg",
    "a/000011.jpg",
    "b/000005.jpg",
    "b/000006.jpg",
    "b/000007.jpg",
]


def test_golden_split():
    # Part of the format: a resumed or repeated run must hold back the same examples.
    _, validation = split_validation(index_of({"a": 12, "b": 12}), 0.25, 3)
    assert validation.names == GOLDEN


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=100),
    st.integers(1, 5),
    st.floats(0.001, 0.999),
    st.integers(0, 2**63 - 1),
)
def test_examples_in_pieces_are_split_as_all_at_once(labels, eights, fraction, seed):
    if max(map(labels.count, labels)) < 2:
        labels = [*labels, labels[0]]
    keys = np.array([name_key(f"example {row}") for row in range(len(labels))], np.uint64)
    rows = np.array(labels)
    whole = held_back([(keys, rows)], 4, fraction, seed)
    piece = 8 * eights
    pieces = [(keys[at : at + piece], rows[at : at + piece]) for at in range(0, len(rows), piece)]
    assert held_back(pieces, 4, fraction, seed).tolist() == whole.tolist()
    held = np.unpackbits(whole, count=len(rows), bitorder="little").astype(bool)
    for label in range(4):
        sides = held[rows == label]
        assert len(sides) < 2 or 0 < sides.sum() < len(sides)
        assert len(sides) != 1 or not sides.any()


def test_a_subset_knows_its_rows_of_the_whole():
    index = index_of({"a": 12, "b": 12})
    train, validation = split_validation(index, 0.25, 3)
    again, _ = split_validation(train, 0.5, 3)
    for part in (train, validation, again):
        assert part.whole == 24
        assert [index.names[row] for row in part.rows] == part.names
