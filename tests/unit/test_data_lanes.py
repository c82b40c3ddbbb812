"""Partition arithmetic over many sizes."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.lanes import (
    check_replicas,
    grid_of,
    lane_bounds,
    lane_count,
    reading,
    replica_rows,
    steps_per_epoch,
)
from harness.errors import EnvironmentNotAble, SpecError


@pytest.mark.parametrize(
    ("batch", "wanted", "lanes"),
    [
        (1, None, 1),
        (7, None, 1),
        (32, None, 32),
        (48, None, 16),
        (256, None, 64),
        (96, None, 32),
        (2048, None, 64),
        (2048, 1024, 1024),
        (256, 1, 1),
        (256, 256, 256),
    ],
)
def test_lane_count(batch, wanted, lanes):
    assert lane_count(batch, wanted) == lanes


@pytest.mark.parametrize(("batch", "wanted"), [(32, 64), (48, 32), (32, 3), (32, 0), (32, -2)])
def test_lane_count_refuses_and_names_what_fits(batch, wanted):
    with pytest.raises(SpecError, match=r"data\.lanes") as raised:
        lane_count(batch, wanted)
    assert raised.value.problems[0].allowed.startswith("1, 2, 4, 8, 16")


def test_lane_count_refuses_an_empty_batch():
    with pytest.raises(SpecError, match="batch_size"):
        lane_count(0)


@pytest.mark.parametrize("replicas", [1, 2, 4, 16])
def test_replicas_that_divide_the_lanes_are_accepted(replicas):
    check_replicas(16, replicas, 48)


@pytest.mark.parametrize(
    ("lanes", "replicas", "batch", "says"),
    [
        (16, 32, 48, "batch_size=32 or 64"),
        (1, 2, 33, "batch_size=32 or 34"),
        (2, 4, 2, "batch_size=4, or"),
        (64, 128, 256, "batch_size=256 or 384 and data.lanes=128"),
        (16, 3, 48, "use 1, 2, 4, 8, 16 replicas"),
        (16, 0, 48, "use 1, 2, 4, 8, 16 replicas"),
    ],
)
def test_replicas_that_do_not_divide_are_told_what_fits(lanes, replicas, batch, says):
    with pytest.raises(EnvironmentNotAble) as raised:
        check_replicas(lanes, replicas, batch)
    assert says in str(raised.value)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    ("lanes", "replicas", "examples", "parts", "fits"),
    [
        (16, 4, 48, 3, True),
        (64, 4, 64, 16, True),
        (4, 4, 12, 3, True),
        (4, 4, 12, 6, False),
        (8, 8, 24, 2, False),
        (1, 1, 7, 7, True),
    ],
)
def test_each_replica_cuts_its_rows_into_equal_parts(lanes, replicas, examples, parts, fits):
    if fits:
        check_replicas(lanes, replicas, examples, parts)
        return
    with pytest.raises(EnvironmentNotAble) as raised:
        check_replicas(lanes, replicas, examples, parts)
    assert f"{replicas} replicas cannot share a batch of {examples // parts} evenly" in str(
        raised.value
    )
    assert raised.value.exit_code == 3


@given(st.integers(1, 5000), st.integers(0, 7))
def test_batch_sizes_named_in_the_error_do_fit(batch, power):
    replicas = 1 << power
    if lane_count(batch) % replicas == 0:
        return
    with pytest.raises(EnvironmentNotAble) as raised:
        check_replicas(lane_count(batch), replicas, batch)
    action = raised.value.problems[0].action
    sizes = action.removeprefix("use training.batch_size=").split(",")[0].split(" and ")[0]
    for size in sizes.split(" or "):
        wanted = replicas if replicas > 64 else None
        check_replicas(lane_count(int(size), wanted), replicas, int(size))


@given(st.integers(1, 10**9), st.integers(0, 10))
def test_lanes_cover_everything_and_differ_by_one_at_most(n, power):
    lanes = 1 << power
    bounds = [lane_bounds(n, lanes, lane) for lane in range(lanes)]
    assert bounds[0][0] == 0 and bounds[-1][1] == n
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    lengths = {end - start for start, end in bounds}
    assert lengths <= {n // lanes, n // lanes + 1}


@given(st.integers(1, 10**6), st.integers(0, 6), st.integers(1, 9))
def test_steps_reach_the_end_of_the_longest_lane_and_not_one_more(n, power, k):
    lanes = 1 << power
    longest = max(b - a for a, b in (lane_bounds(n, lanes, lane) for lane in range(lanes)))
    steps = steps_per_epoch(n, lanes * k, lanes)
    assert (steps - 1) * k < longest <= steps * k


def test_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 3\], was 4"):
        lane_bounds(10, 4, 4)
    with pytest.raises(ValueError, match=r"\[0, 1\], was 2"):
        replica_rows(8, 2, 2)
    with pytest.raises(ValueError, match="of 12, were 5"):
        steps_per_epoch(100, 12, 5)
    with pytest.raises(ValueError, match="0"):
        grid_of(0)


@given(st.integers(1, 10**12))
def test_grids_hold_n_with_few_spare_cells(n):
    a, b = grid_of(n)
    assert a * b >= n
    if n > 4:
        assert min(a, b) >= 3
        assert a * b < n + max(a, 9)


def test_lane_arithmetic_needs_no_tensorflow_or_numpy():
    code = (
        "import sys, harness.data.lanes, harness.data.index, "
        "harness.data.balance; print([m for m in ('tensorflow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("lanes", "example_bytes", "wanted"),
    [
        (64, 0, (32, 4)),
        (64, 60_000, (32, 4)),
        (64, 110_000, (16, 4)),
        (64, 1e6, (2, 4)),
        (64, 1e9, (1, 1)),
        (1, 110_000, (32, 128)),
        (8192, 100, (1, 1)),
        (1024, 100, (2, 4)),
    ],
)
def test_what_is_shuffled_fits_into_memory(lanes, example_bytes, wanted):
    block, window = reading(lanes, example_bytes)
    assert (block, window) == wanted
    held = lanes * block * window
    assert held <= 8192
    assert held * example_bytes <= 512 << 20 or held == lanes
