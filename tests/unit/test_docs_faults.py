"""The page of the faults: every line has a test, and every test a line."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ROOT / "tests" / "faults"


def rows() -> dict[int, list[str]]:
    """Number of a line to what its last cell names."""
    found = {}
    for line in (ROOT / "docs" / "faults.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].isdecimal():
            found[int(cells[0])] = re.findall(r"`([^`]+)`", cells[-1])
    return found


def numbered() -> set[int]:
    """Of the tests in tests/faults."""
    texts = (file.read_text() for file in FAULTS.glob("test_*.py"))
    return {int(n) for text in texts for n in re.findall(r"^def test_(\d\d)_", text, re.MULTILINE)}


def test_there_are_thirty_lines_and_each_names_a_test_that_is_there() -> None:
    assert list(rows()) == list(range(1, 31))
    for number, names in rows().items():
        assert names, f"line {number} names no test"
        for name in names:
            if "/" in name:
                assert (ROOT / name).is_file(), name
            else:
                assert name == f"test_{number:02d}"
                assert number in numbered(), name


def test_each_test_of_a_fault_has_its_line() -> None:
    told = {n for n, names in rows().items() if f"test_{n:02d}" in names}
    assert numbered() == told
