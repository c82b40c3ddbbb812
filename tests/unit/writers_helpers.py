"""Metric lines of a run."""

from __future__ import annotations

import json

import pytest

from harness.runs.paths import RunPaths


def strict(line: str) -> dict:
    """A line as strict JSON, which has no NaN."""
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def lines(path) -> list[dict]:
    """The lines of a file; every one must be whole."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [strict(line) for line in text.splitlines()]


@pytest.fixture
def paths(tmp_path) -> RunPaths:
    return RunPaths.create(tmp_path / "run", "private")


def train(writer, *steps: int, loss: float = 1.0) -> None:
    """Writes a training line for each step."""
    for step in steps:
        writer.scalars(step, {"loss": loss}, split="train", epoch=step // 10, phase="head")
