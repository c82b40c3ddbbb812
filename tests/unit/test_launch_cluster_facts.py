"""How SLURM's tables of partitions and nodes are read, with what larger sites would print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from preflight_helpers import facts, node

from harness.launch.cluster_facts import Node, read_facts, read_gres, words
from harness.launch.preflight_partition import duration


def test_a_nodes_line_is_read_and_its_reason_believed_nothing() -> None:
    (one,) = facts(node("g1", features="ib,avx", state="IDLE+DRAIN")).nodes
    assert one == Node(
        "g1",
        "g1",
        "IDLE+DRAIN",
        62,
        250_000,
        (("gpu", "a100", 4),),
        frozenset({"ib", "avx"}),
        frozenset({"gpu", "long"}),
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("(null)", ()),
        ("gpu:4", (("gpu", "", 4),)),
        ("gpu:a100:4(S:0-1),nvme:1", (("gpu", "a100", 4), ("nvme", "", 1))),
        ("gpu:a100:4(S:0,2),gpu:v100:2", (("gpu", "a100", 4), ("gpu", "v100", 2))),
        ("gpu", (("gpu", "", 1),)),
        ("gpu:tesla", (("gpu", "tesla", 1),)),
        ("bandwidth:lustre:no_consume:4G", (("bandwidth", "lustre", 4 << 30),)),
    ],
)
def test_gres(text: str, wanted: tuple[tuple[str, str, int], ...]) -> None:
    assert read_gres(text) == wanted


@pytest.mark.parametrize(
    ("state", "good"),
    [
        ("IDLE", True),
        ("MIXED", True),
        ("ALLOCATED*", True),
        ("IDLE+CLOUD+POWERED_DOWN", True),
        ("IDLE+PLANNED", True),
        ("DOWN*", False),
        ("IDLE+DRAIN", False),
        ("DOWN+DRAIN", False),
        ("MIXED+DRAIN", False),
        ("DOWN+INVALID_REG", False),
        ("FUTURE", False),
    ],
)
def test_states(state: str, good: bool) -> None:
    assert facts(node("g1", state=state)).nodes[0].in_service is good


PIECES = ["NodeName=", "PartitionName=", "State=", "Gres=", "CPUTot=", "RealMemory=", "Partitions="]


@given(
    st.lists(
        st.sampled_from([*PIECES, " ", "\n", "g1", "gpu:2", ":", "(", ",", "9", "\u00b2", "="])
        | st.text(max_size=3),
        max_size=20,
    ).map("".join)
)
def test_any_line_is_read_without_an_error(text: str) -> None:
    assert all(key and "=" not in key for key in words(text))
    read_facts(text, text, text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "0:01:00"), (86_399, "23:59:59"), (90_000, "1-01:00:00")]
)
def test_durations_as_a_spec_has_them(seconds: int, text: str) -> None:
    assert duration(seconds) == text
