"""What a spec asks of the scheduler, by tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import EnvironmentNotAble
from harness.launch.request import LEAD_S, default_lead_s, make_request
from harness.launch.script import clock
from harness.spec import load_spec
from harness.spec.models_cluster import seconds_of

SITE = """
name: here
cluster: {partition: gpus, account: of_site}
gres: gpu
partitions:
  gpus: {gpus_per_node: 4, cpus_per_node: 48}
  thin: {cpus_per_node: 2}
"""


def request_of(tmp_path: Path, **cluster: Any):
    (tmp_path / "here.yaml").write_text(SITE)
    spec = {
        "harness_spec": 1,
        "name": "textures",
        "backbone": {"handle": "hub:/m"},
        "data": {"train": "/d"},
        "training": {"phases": [{"name": "a", "epochs": 1}]},
        "checkpoint": {"best": {"metric": "loss"}},
        "cluster": {"site": str(tmp_path / "here.yaml"), **cluster},
    }
    return make_request(load_spec(spec))


@pytest.mark.parametrize(
    ("cluster", "cpus", "why"),
    [
        ({"cpus_per_rank": 7, "gpus_per_node": 1}, 7, "cluster.cpus_per_rank"),
        ({"cpus_per_gpu": 6, "gpus_per_node": 1}, 6, "cluster.cpus_per_gpu"),
        ({"gpus_per_node": 1}, 12, "the GPUs' share of a node of here"),
        ({}, 4, "default"),
        ({"partition": "thin"}, 2, "default"),
        ({"partition": "unknown"}, 4, "default"),
    ],
)
def test_cpu_cores_of_a_rank(tmp_path: Path, cluster: dict, cpus: int, why: str) -> None:
    found = request_of(tmp_path, **cluster)
    assert (found.cpus_per_rank, found.cpus_why) == (cpus, why)


@pytest.mark.parametrize(
    ("precision", "cluster", "fits"),
    [
        ("mixed_float16", {"device": "cpu"}, False),
        ("mixed_float16", {"device": "cpu", "gpus_per_node": 2}, False),
        ("mixed_float16", {"gpus_per_node": 2}, True),
        ("mixed_float16", {}, True),
        ("mixed_bfloat16", {"gpus_per_node": 2}, False),
        ("mixed_bfloat16", {"device": "gpu"}, False),
        ("mixed_bfloat16", {"device": "cpu", "gpus_per_node": 2}, True),
        ("mixed_bfloat16", {}, True),
        ("float32", {"device": "cpu"}, True),
        ("float32", {"device": "gpu"}, True),
    ],
)
def test_a_precision_that_the_devices_have_not_is_not_queued(
    tmp_path: Path, precision: str, cluster: dict, fits: bool
) -> None:
    resolved = load_spec(
        {
            "harness_spec": 1,
            "name": "textures",
            "backbone": {"handle": "hub:/m"},
            "data": {"train": "/d"},
            "training": {"precision": precision},
            "checkpoint": {"best": {"metric": "loss"}},
            "cluster": cluster,
        }
    )
    if fits:
        make_request(resolved)
        return
    with pytest.raises(EnvironmentNotAble, match=f"computes in {precision} on [CG]PUs only"):
        make_request(resolved)


def test_what_is_not_asked_for_is_left_to_the_cluster(tmp_path: Path) -> None:
    found = request_of(tmp_path)
    assert (found.time_s, found.mem_gb, found.qos, found.constraint) == (None,) * 4
    assert (found.gpus_per_node, found.ranks, found.cpus_per_node) == (0, 1, 4)
    assert (found.partition, found.account) == ("gpus", "of_site")


@pytest.mark.parametrize(
    ("cluster", "lead_s"),
    [
        ({}, LEAD_S),
        ({"time": "2:00:00"}, LEAD_S),
        ({"time": "0:02:00"}, 30),
        ({"time": "2:00:00", "time_floor": "0:04:00"}, 60),
        ({"time": "0:10:00", "signal_lead_s": 300}, 300),
    ],
)
def test_when_a_run_is_asked_to_stop(tmp_path: Path, cluster: dict, lead_s: int) -> None:
    assert request_of(tmp_path, **cluster).lead_s == lead_s


@given(st.integers(60, 10**7))
def test_most_of_a_time_limit_is_left_for_training(limit_s: int) -> None:
    assert 10 <= default_lead_s(limit_s) <= min(LEAD_S, max(10, limit_s / 4))


@given(st.integers(0, 10**7))
def test_a_clock_reads_back(seconds: int) -> None:
    assert seconds_of(clock(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:01:00", 60), ("2:00:00", 7200), ("1-02:03:04", 93784)]
)
def test_time_limits_in_seconds(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds
