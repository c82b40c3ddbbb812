"""Parts of a set as bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import selection
from harness.data.selection import Selection


@pytest.fixture(autouse=True, scope="module")
def small_steps():
    """Bits are gone through in steps that these small sets are longer than."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_AT_ONCE", 1024)
        yield


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20_000), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_nth_of_the_part_is_where_its_bit_is(whole: int, share: float, seed: int) -> None:
    chosen = np.random.default_rng(seed).random(whole) < share
    bits = np.packbits(chosen, bitorder="little")
    part, wanted = Selection(whole, bits), np.flatnonzero(chosen)
    assert len(part) == len(wanted)
    assert part.is_all == chosen.all()
    shuffled = np.random.default_rng(seed).permutation(len(wanted))
    np.testing.assert_array_equal(part.positions(shuffled), wanted[shuffled])
    rest = Selection(whole, bits, others=True)
    assert len(rest) + len(part) == whole
    assert rest.digest() == Selection(whole, np.packbits(~chosen, bitorder="little")).digest()
    np.testing.assert_array_equal(rest.positions(np.arange(len(rest))), np.flatnonzero(~chosen))
    for start in range(0, whole, 4_808):
        count = min(5_000, whole - start)
        np.testing.assert_array_equal(part.holds(start, count), chosen[start : start + count])
        np.testing.assert_array_equal(rest.holds(start, count), ~chosen[start : start + count])


def test_all_of_a_set_need_no_bits() -> None:
    every = Selection(7)
    assert len(every) == 7
    assert every.is_all
    assert every.positions(np.array([6, 0])).tolist() == [6, 0]
    assert every.holds(0, 7).all()


def test_parts_that_differ_have_other_digests() -> None:
    digests = {Selection(16, np.array(bits, np.uint8)).digest() for bits in ([1, 0], [0, 1])}
    assert len(digests | {Selection(16).digest(), Selection(15).digest()}) == 4


def test_a_wrong_number_of_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="1 bytes of bits for 9"):
        Selection(9, np.zeros(1, np.uint8))
