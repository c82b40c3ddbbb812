"""Epochs with as many examples of each class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.resampling import OVER, UNDER, Resampling, resampling_of
from harness.errors import SpecError

KINDS = (OVER, UNDER)


def epoch_of(resampling: Resampling, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    places = np.arange(len(resampling))
    return resampling.rows(places, np.full_like(places, epoch))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(any),
    st.sampled_from(KINDS),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**40),
    st.randoms(use_true_random=False),
)
def test_each_class_stands_in_it_equally_often(counts, kind, seed, epoch, random):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    random.shuffle(labels)
    resampling = Resampling(labels, kind, seed)
    present = [count for count in counts if count]
    each = max(present) if kind == OVER else min(present)
    rows, numbers = epoch_of(resampling, epoch)
    assert len(rows) == len(resampling) == each * len(present)
    drawn = np.bincount(np.array(labels)[rows], minlength=len(counts))
    assert drawn.tolist() == [each if count else 0 for count in counts]
    times = np.bincount(rows, minlength=len(labels))
    for label, count in enumerate(counts):
        mine = times[np.array(labels) == label]
        assert not count or set(mine) <= {each // count, -(-each // count)}
    # No example is changed twice in the same way, in this epoch or in others.
    assert len(set(zip(rows.tolist(), numbers.tolist(), strict=True))) == len(rows)
    assert numbers.min() >= epoch * resampling.passes
    assert numbers.max() < (epoch + 1) * resampling.passes


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_function_of_seed_epoch_and_place(kind):
    labels = [0] * 50 + [1] * 7 + [2] * 31

    def rows(seed: int, epoch: int) -> np.ndarray:
        return epoch_of(Resampling(labels, kind, seed), epoch)[0]

    first = rows(1, 0)
    np.testing.assert_array_equal(first, rows(1, 0))
    some = np.array([3, 0, 19])
    alone, _ = Resampling(labels, kind, 1).rows(some, np.array([0, 2, 0]))
    assert alone.tolist() == [first[3], rows(1, 2)[0], first[19]]
    for other in (rows(1, 1), rows(2, 0)):
        assert (other != first).mean() > 0.5


def test_what_undersampling_leaves_out_changes_from_epoch_to_epoch():
    resampling = Resampling([0] * 40 + [1] * 10, UNDER, 3)
    seen = [set(epoch_of(resampling, epoch)[0].tolist()) for epoch in range(30)]
    assert all(set(range(40, 50)) <= one for one in seen)
    assert len(set().union(*seen)) == 50
    assert len({frozenset(one) for one in seen}) == 30


def test_classes_are_mixed_all_along():
    resampling = Resampling([0] * 900 + [1] * 100, OVER, 1)
    labels = epoch_of(resampling, 0)[0] >= 900
    shares = labels.reshape(18, 100).mean(1)
    # 100 fair coins: five standard deviations are 0.25.
    assert (abs(shares - 0.5) < 0.25).all()


# Part of the order of a run, which a resume relies on.
def test_golden_values_hold():
    rows, numbers = Resampling([0, 1, 1, 0, 1, 1, 1], OVER, 5).rows(np.arange(10), np.full(10, 2))
    assert rows.tolist() == GOLDEN_ROWS
    assert numbers.tolist() == GOLDEN_NUMBERS


GOLDEN_ROWS = [3, 0, 3, 1, 5, 0, 2, 0, 4, 6]
GOLDEN_NUMBERS = [6, 8, 7, 6, 6, 6, 6, 7, 6, 6]


def test_packed_data_are_refused():
    assert resampling_of("class_weights", None, 1) is None
    with pytest.raises(SpecError, match=r"data\.balance: packed data are read in whole blocks"):
        resampling_of(OVER, None, 1)
