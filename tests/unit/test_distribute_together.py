"""What ranks do together on the host: told, gathered and shared bit by bit, over 1, 2 and 5."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks_in_threads import InThread, on_all

from harness.distribute import together

SIZES = pytest.mark.parametrize("size", [1, 2, 5])

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


@SIZES
@pytest.mark.parametrize("raised_by", [None, 0, "last"])
def test_agree_is_true_on_all_once_it_is_on_one(size: int, raised_by: int | str | None) -> None:
    who = size - 1 if raised_by == "last" else raised_by
    agreed = on_all(size, lambda rank: rank.agree(rank.topology.rank == who))
    assert agreed == [who is not None] * size
    assert {type(flag) for flag in agreed} == {bool}


@SIZES
def test_agree_where_all_say_so(size: int) -> None:
    assert on_all(size, lambda rank: rank.agree(True)) == [True] * size


@SIZES
@pytest.mark.parametrize("number", [0, 1, -7, 2**62, -(2**63)])
def test_first_is_rank_0s_whatever_the_others_have(size: int, number: int) -> None:
    def call(rank: InThread) -> int:
        return rank.first(number if rank.topology.is_first else 99)

    assert on_all(size, call) == [number] * size


@SIZES
def test_one_rank_sums_nothing(size: int) -> None:
    def call(rank: InThread) -> int:
        rank.barrier()
        rank.agree(False)
        rank.tell_all({"a": 1})
        rank.gather(1)
        rank.share_arrays([np.zeros(3)])
        return rank.sums

    assert (on_all(size, call)[0] == 0) == (size == 1)


VALUES = [
    None,
    {},
    [],
    "",
    0,
    {"ü": "日本語 \0 \x7f 😀", "spaces": "   "},
    [1.5, -0.0, 1e308, 2**80],
    {"long": "é" * 100_001},
    "\ud800",  # half a surrogate pair, as file names may hold
]


@SIZES
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_tell_all_gives_rank_0s_value(size: int, value: Any) -> None:
    def call(rank: InThread) -> Any:
        return rank.tell_all(value if rank.topology.is_first else {"of": rank.topology.rank})

    assert on_all(size, call) == [value] * size


@SIZES
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_gather_gives_all_values_by_rank(size: int, value: Any) -> None:
    """Of very different lengths, so that the short ones are filled up."""

    def mine(rank: int) -> Any:
        return value if rank % 2 == 0 else {"rank": rank}

    wanted = [mine(rank) for rank in range(size)]
    assert on_all(size, lambda rank: rank.gather(mine(rank.topology.rank))) == [wanted] * size


@settings(max_examples=40)
@given(st.lists(JSON, min_size=3, max_size=3))
def test_any_json(values: list[Any]) -> None:
    assert on_all(3, lambda rank: rank.gather(values[rank.topology.rank])) == [values] * 3
    assert on_all(3, lambda rank: rank.tell_all(values[rank.topology.rank])) == [values[0]] * 3


def odd_arrays(seed: int) -> list[np.ndarray]:
    """Of all dtypes that variables have, with every bit pattern that arithmetic would change."""
    rng = np.random.default_rng(seed)
    nan = np.array([0x7F800001, 0xFFC01234, 0x80000000, 0x00000001], np.uint32).view(np.float32)
    return [
        nan,
        np.array([-0.0, 0.0, np.inf, -np.inf, np.nan]),
        np.frombuffer(rng.bytes(14), np.float16),
        np.frombuffer(rng.bytes(13), np.int8),
        rng.integers(0, 2, 5).astype(bool),
        np.array(rng.integers(-(2**63), 2**63 - 1, dtype=np.int64)),  # of no dimension
        np.zeros((0, 3), np.float32),
        np.frombuffer(rng.bytes(8 * 6), np.float64).reshape(2, 3).T,  # not contiguous
        np.array([2**31 - 1, -(2**31)], np.int32),
        np.array(True),
        np.frombuffer(rng.bytes(24), np.complex64),
    ]


def assert_same_bits(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert [(a.dtype, a.shape) for a in one] == [(a.dtype, a.shape) for a in other]
    assert [a.tobytes() for a in one] == [a.tobytes() for a in other]


@SIZES
@pytest.mark.parametrize("chunk", [1, 7, 1 << 24])
def test_shared_arrays_are_rank_0s_to_the_last_bit(
    size: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "_CHUNK", chunk)
    shared = on_all(size, lambda rank: rank.share_arrays(odd_arrays(rank.topology.rank)))
    for got in shared:
        assert_same_bits(got, odd_arrays(0))


@SIZES
def test_no_arrays_and_empty_ones(size: int) -> None:
    assert on_all(size, lambda rank: rank.share_arrays([])) == [[]] * size
    empty = [np.zeros((0,), np.float16), np.zeros((3, 0), bool)]
    for got in on_all(size, lambda rank: rank.share_arrays(empty)):
        assert_same_bits(got, empty)


def test_what_was_shared_may_be_written_to() -> None:
    def call(rank: InThread) -> float:
        (array,) = rank.share_arrays([np.ones(3)])
        array += rank.topology.rank
        return float(array.sum())

    assert on_all(3, call) == [3.0, 6.0, 9.0]


DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "int32", "int64", "bool", "uint8")


@SIZES
def test_broadcast_gives_all_the_variables_of_rank_0(size: int) -> None:
    tf = pytest.importorskip("tensorflow")

    def made(rank: int) -> list[Any]:
        draw = np.random.default_rng(rank).integers(0, 2, (3, 5))
        return [
            *(tf.Variable(tf.cast(draw, dtype), dtype=dtype) for dtype in DTYPES),
            tf.Variable(np.array([np.nan, -0.0, 1e-45], np.float32) * (1 if rank == 0 else 2)),
            tf.Variable(np.int64(2**62 + rank)),
            tf.Variable(np.zeros((0, 2), np.float32)),
        ]

    def call(rank: InThread) -> list[np.ndarray]:
        variables = made(rank.topology.rank)
        rank.broadcast(variables)
        return [variable.numpy() for variable in variables]

    wanted = [variable.numpy() for variable in made(0)]
    for got in on_all(size, call):
        assert_same_bits(got, wanted)


def test_copies_of_one_device() -> None:
    tf = pytest.importorskip("tensorflow")
    (copy,) = InThread.copies(on_all(1, lambda rank: rank)[0], tf.Variable([1.0, 2.0]))
    np.testing.assert_array_equal(copy, [1.0, 2.0])


def test_an_error_of_one_thread_ends_the_test_and_not_the_machine() -> None:
    """Of the helper: nobody waits for a rank that has failed."""

    def call(rank: InThread) -> None:
        if rank.topology.rank == 1:
            raise KeyError("mine")
        rank.barrier()

    with pytest.raises(KeyError, match="mine"):
        on_all(3, call)
