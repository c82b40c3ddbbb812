"""Which tensors are summed together: every one once, in a fixed order, from the end."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from harness.distribute.buckets import (
    BUCKET_BYTES,
    bucket_bytes,
    buckets,
    buckets_of,
    joined,
    parted,
)

F, D, I = "float32", "float64", "int64"  # noqa: E741

TENSORS = st.lists(st.tuples(st.integers(0, 50), st.sampled_from([F, D, I])), max_size=40)


@pytest.mark.parametrize(
    ("sizes", "kinds", "limit", "wanted"),
    [
        ([], [], 10, []),
        ([4], [F], 10, [[0]]),
        ([4, 4, 4], [F, F, F], 12, [[2, 1, 0]]),
        ([4, 4, 4], [F, F, F], 11, [[2, 1], [0]]),
        ([4, 99, 4], [F, F, F], 10, [[2], [1], [0]]),
        ([99, 1], [F, F], 10, [[1], [0]]),
        ([1, 99, 1], [F, F, F], 100, [[2, 1], [0]]),
        ([0, 0, 0], [F, F, F], 0, [[2, 1, 0]]),
        ([4, 4, 4, 4], [F, D, F, D], 8, [[3, 1], [2, 0]]),
        # A bucket of another kind between them closes none.
        ([4, 4, 8, 4], [F, I, D, F], 100, [[3, 0], [2], [1]]),
        ([4, 4, 4, 4, 4], [F, F, D, F, F], 8, [[4, 3], [2], [1, 0]]),
    ],
)
def test_table(sizes: list[int], kinds: list[str], limit: int, wanted: list[list[int]]) -> None:
    assert buckets(sizes, kinds, limit) == wanted


@given(TENSORS, st.integers(0, 120))
def test_what_always_holds(tensors: list[tuple[int, str]], limit: int) -> None:
    sizes, kinds = [size for size, _ in tensors], [kind for _, kind in tensors]
    made = buckets(sizes, kinds, limit)
    assert sorted(index for bucket in made for index in bucket) == list(range(len(tensors)))
    for bucket in made:
        assert len({kinds[index] for index in bucket}) == 1
        assert len(bucket) == 1 or sum(sizes[index] for index in bucket) <= limit
        assert bucket == sorted(bucket, reverse=True)
    # They are told apart by their first tensors, which get ready from the end.
    firsts = [bucket[0] for bucket in made]
    assert firsts == sorted(firsts, reverse=True)
    assert made == buckets(list(sizes), list(kinds), limit)


@given(TENSORS, st.integers(1, 120))
def test_no_bucket_could_have_taken_the_first_of_the_next(
    tensors: list[tuple[int, str]], limit: int
) -> None:
    sizes, kinds = [size for size, _ in tensors], [kind for _, kind in tensors]
    last: dict[str, int] = {}
    for bucket in buckets(sizes, kinds, limit):
        kind = kinds[bucket[0]]
        if kind in last:
            assert last[kind] + sizes[bucket[0]] > limit
        last[kind] = sum(sizes[index] for index in bucket)


def test_one_large_tensor_is_a_bucket_of_its_own_and_the_small_ones_share() -> None:
    sizes = [1000, 3 * BUCKET_BYTES, 1000, 1000]
    assert buckets(sizes, [F] * 4) == [[3, 2], [1], [0]]


def test_sizes_and_kinds_go_together() -> None:
    with pytest.raises(ValueError, match="2 sizes and 1 kinds"):
        buckets([1, 2], [F])


def test_the_arithmetic_needs_no_tensorflow() -> None:
    import subprocess
    import sys

    code = (
        "import sys, harness.distribute.buckets, harness.distribute.strategy, "
        "harness.distribute.asked, harness.distribute.pace; print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_sizes_are_those_of_the_tensors() -> None:
    import tensorflow as tf

    from harness.distribute.buckets import buckets_of

    tensors = [
        tf.zeros([4], tf.float32),
        tf.zeros([], tf.float64),
        tf.zeros([0, 3], tf.float32),
        tf.zeros([BUCKET_BYTES // 2], tf.float16),
    ]
    assert buckets_of(tensors) == [[3], [2, 0], [1]]


@pytest.mark.parametrize(
    ("ranks", "gpus", "wanted"),
    [(1, False, 1 << 20), (2, False, 2 << 20), (32, False, 32 << 20), (1024, False, 32 << 20)]
    + [(ranks, True, BUCKET_BYTES) for ranks in (1, 2, 1024)],
)
def test_a_ring_of_cpus_takes_small_pieces(ranks: int, gpus: bool, wanted: int) -> None:
    assert bucket_bytes(ranks, gpus=gpus) == wanted


@given(st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=6))
def test_joined_tensors_come_apart_again(shapes: list[list[int]]) -> None:
    tensors = [
        tf.reshape(
            tf.range(sum(range(len(shape))) + int(np.prod(shape)))[: int(np.prod(shape))], shape
        )
        for shape in shapes
    ]
    vector = joined(tensors)
    assert vector.shape == [sum(int(np.prod(shape)) for shape in shapes)]
    for tensor, part in zip(tensors, parted(vector, tensors), strict=True):
        assert part.shape == tensor.shape
        assert part.dtype == tensor.dtype
        np.testing.assert_array_equal(part, tensor)


def test_the_limit_is_kept() -> None:
    tensors = [tf.zeros([256]), tf.zeros([256]), tf.zeros([], tf.int64)]
    assert buckets_of(tensors, 1024) == [[2], [1], [0]]
    assert buckets_of(tensors) == [[2], [1, 0]]
