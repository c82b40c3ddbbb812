"""The order against its plain-Python twin, and what it promises, over many sizes."""

from __future__ import annotations

import data_helpers
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.data.lanes import grid_of
from harness.data.order import Order, canonical_position, canonical_rows, sorted_row
from harness.data.permute import Domain, fold, key_of, permute, unpermute

sizes = st.tuples(
    st.integers(1, 400),  # n
    st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16, 24, 32]),  # global batch
    st.integers(0, 5),  # lanes, as a power of two
    st.integers(1, 20),  # block
    st.integers(1, 12),  # window
    st.integers(0, 2**63 - 1),  # seed
    st.integers(0, 2**40),  # epoch
)


def order_of(size) -> Order:
    n, batch, power, block, window, seed, _ = size
    lanes = 1 << power
    assume(batch % lanes == 0)
    return Order(n, batch, lanes, seed, block, window)


def examples_of(order: Order):
    """As ``order.batch``, with rows of the sorted names."""

    def examples(*where):
        canonical, mask = order.batch(*where)
        return sorted_row(canonical.reshape(-1), order.n).reshape(canonical.shape), mask

    return examples


def whole_epoch(order: Order, epoch: int, of=None) -> tuple[np.ndarray, np.ndarray]:
    return (of or examples_of(order))(epoch, np.arange(order.steps_per_epoch))


@settings(max_examples=30, deadline=None)
@given(sizes)
def test_agrees_with_the_order_written_out_as_lists(size):
    order = order_of(size)
    positions, mask = whole_epoch(order, size[-1], order.batch)
    rows, _ = whole_epoch(order, size[-1])
    batches, canonical = data_helpers.epoch_of(
        order.n, order.global_batch, order.lanes, order.seed, size[-1], order.block, order.window
    )
    wanted = np.array([[-1 if p is None else p for p in batch] for batch in batches])
    np.testing.assert_array_equal(mask, (wanted >= 0).astype(np.float32))
    np.testing.assert_array_equal(np.where(wanted >= 0, positions, -1), wanted)
    np.testing.assert_array_equal(rows, np.array(canonical)[positions])


@settings(max_examples=30, deadline=None)
@given(sizes)
def test_every_example_once_an_epoch_and_padding_only_at_the_end_of_lanes(size):
    order = order_of(size)
    rows, mask = whole_epoch(order, size[-1])
    assert sorted(rows[mask == 1]) == list(range(order.n))
    assert set(np.unique(mask)) <= {0.0, 1.0}
    assert rows.min() >= 0 and rows.max() < order.n
    by_lane = mask.reshape(order.steps_per_epoch, order.lanes, -1).transpose(1, 0, 2)
    by_lane = by_lane.reshape(order.lanes, -1)
    assert (np.diff(by_lane, axis=1) <= 0).all()


@settings(max_examples=20, deadline=None)
@given(sizes)
def test_padding_repeats_an_example_of_its_lane(size):
    order = order_of(size)
    assume(order.n >= order.lanes)
    positions, _ = whole_epoch(order, size[-1], order.batch)
    k = order.global_batch // order.lanes
    lane = np.arange(order.global_batch) // k
    assert (positions >= order.n * lane // order.lanes).all()
    assert (positions < order.n * (lane + 1) // order.lanes).all()


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_windows_cut_a_lane_into_whole_blocks(size):
    order, epoch = order_of(size), size[-1]
    end = order.steps_per_epoch * order.per_lane
    for lane in {0, order.lanes // 2, order.lanes - 1}:
        windows = np.arange(order.windows + 1)
        lanes, epochs = np.full_like(windows, lane), np.full_like(windows, epoch)
        starts = order.window_start(epochs, lanes, windows)
        assert starts[0] == 0 and starts[-1] == end and (np.diff(starts) >= 0).all()
        positions = np.arange(end)
        lanes, epochs = (np.full_like(positions, each[0]) for each in (lanes, epochs))
        found = order.window_of(epochs, lanes, positions)
        np.testing.assert_array_equal(
            found, np.repeat(np.arange(order.windows), np.diff(starts)), str(starts)
        )
        canonical, mask = order.at(epochs, lanes, positions)
        block = (canonical - order.lane_start(lanes[:1])) // order.block
        held = [set(block[(found == w) & (mask == 1)]) for w in range(order.windows)]
        assert sum(map(len, held)) == len(set().union(*held)), "a block lies in two windows"
        assert all(len(blocks) <= order.window for blocks in held)


@settings(max_examples=20, deadline=None)
@given(sizes)
def test_replicas_have_the_rows_of_the_same_global_batches(size):
    order = order_of(size)
    whole = whole_epoch(order, size[-1])
    replicas = 1
    while replicas <= order.lanes:
        lanes = order.lanes // replicas
        parts = [
            whole_epoch(
                order, size[-1], lambda e, s, r=r, c=lanes: examples_of(order)(e, s, r * c, c)
            )
            for r in range(replicas)
        ]
        for at in range(2):
            joined = np.concatenate([part[at] for part in parts], axis=1)
            np.testing.assert_array_equal(joined, whole[at])
        replicas *= 2


@settings(max_examples=15, deadline=None)
@given(sizes, st.data())
def test_a_late_start_gives_the_tail(size, data):
    order = order_of(size)
    rows, mask = whole_epoch(order, size[-1])
    step = data.draw(st.integers(0, order.steps_per_epoch - 1))
    one, one_mask = examples_of(order)(size[-1], step)
    assert one.shape == (order.global_batch,)
    np.testing.assert_array_equal(one, rows[step])
    np.testing.assert_array_equal(one_mask, mask[step])
    tail, _ = examples_of(order)(size[-1], np.arange(step, order.steps_per_epoch))
    np.testing.assert_array_equal(tail, rows[step:])


def test_steps_of_several_epochs_at_once():
    order = Order(50, 8, 8, 3, 4, 2)
    epochs, steps = np.array([0, 0, 1, 5]), np.array([0, 6, 0, 2])
    together, mask = examples_of(order)(epochs, steps)
    for at in range(4):
        alone, alone_mask = examples_of(order)(epochs[at], steps[at])
        np.testing.assert_array_equal(together[at], alone)
        np.testing.assert_array_equal(mask[at], alone_mask)


def test_epochs_and_seeds_differ_and_repeat():
    def of(seed, epoch):
        return whole_epoch(Order(1000, 32, 32, seed, 16, 4), epoch)[0]

    first = of(1, 0)
    np.testing.assert_array_equal(first, of(1, 0))
    others = [of(1, 1), of(2, 0), of(1 + 2**32, 0), of(1, 2**32)]
    for at, other in enumerate(others):
        # Two random orders of 1,000 rows agree in one place on average.
        assert (other == first).mean() < 0.05, at


def test_canonical_order_is_a_permutation_and_is_inverted():
    rows = np.arange(777)
    canonical = sorted_row(rows, 777)
    assert sorted(canonical) == list(range(777))
    np.testing.assert_array_equal(canonical_rows(777), canonical)
    np.testing.assert_array_equal(canonical_position(canonical, 777), rows)


def test_class_sorted_rows_are_mixed_in_every_batch():
    order = Order(1000, 64, 64, 1, 32, 4)
    rows, mask = whole_epoch(order, 0)
    halves = [(batch[m == 1] >= 500).mean() for batch, m in zip(rows, mask, strict=True)]
    # 64 fair coins: five standard deviations are 0.31.
    assert all(abs(half - 0.5) < 0.31 for half in halves[:-1])


# The order is part of the format: packed shards and resumed runs rely on it.
GOLDEN = [44, 71, 6, 33, 4, 94, 79, 59]


def test_golden_values_hold():
    rows, _ = examples_of(Order(100, 8, 8, 1, 4, 2))(3, 5)
    assert rows.tolist() == GOLDEN
    assert data_helpers.permutation(5, data_helpers.key_of(7)) == [0, 4, 2, 3, 1]


def test_golden_seeds_hold_in_every_tensorflow():
    tf = pytest.importorskip("tensorflow")
    from harness.data import seeds

    seed = seeds.seed_pair(seeds.key_of(1, 2), tf.constant(3, tf.int64))
    assert seed.numpy().tolist() == [4013244799769638055, 3]
    draws = tf.random.stateless_uniform([4], seed, alg=tf.random.Algorithm.PHILOX)
    wanted = [0.4437596797943115, 0.7591469287872314, 0.07553112506866455, 0.5603586435317993]
    assert draws.numpy().tolist() == wanted


def test_seeds_in_graphs_have_the_hash_of_the_order():
    tf = pytest.importorskip("tensorflow")
    from harness.data import seeds

    numbers = np.array([0, 1, 5, 2**31, 2**32 - 1, 2**32, 2**40 + 3, 2**63 - 1])
    ours = fold(key_of(7, 2**62), numbers)
    theirs = seeds.fold(seeds.key_of(7, 2**62), tf.constant(numbers))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 63, 64, 65, 1000, 65_535, 65_536, 65_537, 262_145])
def test_permutations_are_exact_and_invertible(n):
    # TensorFlow's index_shuffle repeats values for n = 65,537 and 262,145.
    domain = Domain(*map(np.array, (n, *grid_of(n))))
    x = np.arange(n)
    y = permute(x, domain, key_of(n))
    assert (np.bincount(y, minlength=n) == 1).all()
    np.testing.assert_array_equal(unpermute(y, domain, key_of(n)), x)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 16, 24, 63])
def test_permutations_look_random(n):
    """Pairs of positions are uniform over 20,000 keys (chi-square, six standard deviations)."""
    trials = 20_000
    number = np.repeat(np.arange(trials), n)
    domain = Domain(*map(np.array, (n, *grid_of(n))))
    y = permute(np.tile(np.arange(n), trials), domain, key_of(9, number))
    table = y.reshape(trials, n)
    for first, second in {(0, 1), (0, n - 1), (n // 2 - 1, n // 2)} - {(0, 0)}:
        pairs = np.bincount(table[:, first] * n + table[:, second], minlength=n * n)
        counts = pairs.reshape(n, n)[~np.eye(n, dtype=bool)]
        expected = trials / counts.size
        freedom = counts.size - 1
        chi = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi - freedom) < 6 * (2 * freedom) ** 0.5, (first, second)


def test_huge_sets_cost_no_memory_and_no_time():
    import resource

    order = Order(10**12, 256, 64, 1, 64, 16)
    late, mask = examples_of(order)(0, order.steps_per_epoch - 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows, _ = examples_of(order)(2, np.arange(10**9, 10**9 + 16))
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert mask.all() and late.min() >= 0 and late.max() < 10**12
    assert len(np.unique(rows)) == rows.size
    assert grown_kib < 50 * 1024


@pytest.mark.parametrize(
    "bad", [{"n": 0}, {"block": 0}, {"window": 0}, {"seed": -1}, {"seed": 2**63}, {"lanes": 3}]
)
def test_numbers_out_of_range_are_refused(bad):
    good = {"n": 10, "global_batch": 4, "lanes": 4, "seed": 0, "block": 2, "window": 1}
    with pytest.raises(ValueError):
        Order(**(good | bad))


def test_lanes_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"\[3, 5\) must be within \[0, 4\)"):
        Order(10, 4, 4, 0, 2, 1).batch(0, 0, 3, 2)
