"""Steps over two devices of one process: accumulated, normalised, and looked at for drift."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("mirrored_steps.py")
LIKE_RELATIVE = 5e-5
"""Float32 sums in another order, over five steps with momentum."""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Logical devices must be made before TensorFlow is used: in a process of its own."""
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "what",
    ["plain", "accumulated", "norm", "norm and dropout", "norm in parts", "drawn", "statistics"],
)
def test_two_devices_step_as_one(found: dict[str, Any], what: str) -> None:
    assert found[what] < LIKE_RELATIVE


def test_what_xla_compiles_steps_as_what_it_does_not(found: dict[str, Any]) -> None:
    """With dropout, whose draws XLA would by itself make others."""
    assert found["compiled"] < LIKE_RELATIVE


@pytest.mark.parametrize("parts", [1, 2])
def test_two_devices_skip_a_step_that_one_of_them_makes_infinite(
    found: dict[str, Any], parts: int
) -> None:
    assert found[f"scaled in {parts}"] < LIKE_RELATIVE
    wanted = {"scale": 2.0**14, "good": 2, "skipped": 1, "row": 0}
    assert found[f"scales in {parts}"] == [wanted, wanted]


def test_a_copy_that_has_drifted_is_named(found: dict[str, Any]) -> None:
    assert "do not have the same weights after step 3" in found["unequal"]
    assert "odd on device 1 of 2 of this process" in found["unequal"]
