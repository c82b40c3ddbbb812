"""How the process of the command line ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys
from harness import __main__ as entry
from harness.cli import main as frame

if sys.argv[1] == "with":
    import tensorflow
atexit.register(print, "an ordinary end")
frame.main = lambda: 3
print("said")
entry.command()
"""


@pytest.mark.parametrize(("how", "last"), [("with", ""), ("without", "an ordinary end\n")])
def test_with_tensorflow_it_ends_at_once(how: str, last: str) -> None:
    """An ordinary end may wait for ever for a data set that calls Python, see ``command``."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (3, f"said\n{last}")
