"""The calculation of docs/scaling.md: what must hold of it, and that the page shows its figures."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import scaling
from benchmarks.scaling import Network, allreduce_s, rows, step_s
from harness.distribute.buckets import BUCKET_BYTES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text()
SECTIONS = re.findall(r"```\npython benchmarks/scaling.py ([^\n]+)\n```\n\n((?:\|[^\n]+\n)+)", PAGE)
positive = st.floats(1e-3, 1e4)
counts = st.integers(1, 4096)


@pytest.mark.parametrize(("arguments", "shown"), SECTIONS, ids=[one[0] for one in SECTIONS])
def test_the_page_shows_what_the_command_prints(
    arguments: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scaling.main(shlex.split(arguments))
    assert capsys.readouterr().out == shown


def test_the_page_has_its_four_tables_up_to_1024() -> None:
    assert len(SECTIONS) == 4
    assert all("| 1,024 |" in shown and "| 1 |" in shown for _, shown in SECTIONS)


def test_buckets_are_those_of_training() -> None:
    # Decimal and binary megabytes differ by less than what is assumed of a network.
    assert pytest.approx(BUCKET_BYTES / 1e6, rel=0.05) == scaling.BUCKET_MB


def test_a_ring_moves_twice_the_data_but_for_the_own_share() -> None:
    network = Network(within_gb_s=1.0, within_us=0.0, per_node=4)
    # 100 MB over four devices: 2 * 3/4 * 0.1 s.
    assert allreduce_s(100, 4, network) == pytest.approx(0.15)
    assert allreduce_s(100, 1, network) == 0.0


def test_many_nodes_use_the_tree_where_latency_counts() -> None:
    network = Network(between_us=100.0, per_node=1)
    small = allreduce_s(0.001, 1024, network)
    assert small == pytest.approx(2 * 10 * 100e-6, rel=0.01)
    large = allreduce_s(1000, 4, network)  # and the ring where the bandwidth does
    assert large == pytest.approx(2 * 3 / 4 * 1000e6 / 25e9, rel=0.02)


def test_a_sum_hides_behind_the_backward_pass_but_for_its_last_bucket() -> None:
    network = Network(within_gb_s=10.0, within_us=0.0)
    last = allreduce_s(scaling.BUCKET_MB, 2, network)
    assert step_s(1.0, 10 * scaling.BUCKET_MB, 2, network) == pytest.approx(1.0 + last)


def test_a_network_that_is_too_slow_is_the_limit() -> None:
    network = Network(within_gb_s=0.1)
    assert step_s(0.01, 320, 2, network) > 10 * allreduce_s(scaling.BUCKET_MB, 2, network)


@given(compute=positive, gradient=st.floats(0.01, 2e3), count=counts, jitter=st.floats(0, 0.2))
def test_no_step_is_shorter_than_its_arithmetic(
    compute: float, gradient: float, count: int, jitter: float
) -> None:
    assert step_s(compute, gradient, count, Network(), jitter) >= compute


@given(compute=positive, gradient=st.floats(0.01, 2e3))
def test_more_devices_are_never_more_efficient(compute: float, gradient: float) -> None:
    shares = [share for _, _, share in rows(compute, gradient, Network(), 0.01)]
    assert shares[0] == 1.0
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(shares))
