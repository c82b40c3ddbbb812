"""Errors that others raise become one paragraph with the right exit code."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import pytest

from harness import __main__ as entry
from harness.cli import main as frame
from harness.errors import DataError, ExitCode, HarnessError
from harness.worker.translation import translated


class ResourceExhaustedError(Exception):
    """As TensorFlow names both a full memory and a full disk."""


class UnknownError(Exception):
    """As TensorFlow names what Python code in a data set has raised."""


ResourceExhaustedError.__module__ = "tensorflow.python.framework.errors_impl"
UnknownError.__module__ = ResourceExhaustedError.__module__
WITHIN = (
    "{{function_node x}} Error in user-defined function: DataError: /d/offsets.bin is broken, got 3"
    "\nTraceback (most recent call last):\n\n  second\n"
)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/r/x"), 5, "/r/x: no space is left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/r/x"), 5, "quota"),
        (ResourceExhaustedError("/r/x; No space left on device"), 5, "no space is left"),
        (ResourceExhaustedError("OOM when allocating tensor"), 1, "memory ran out"),
        (MemoryError(), 1, "memory ran out"),
        (UnknownError(WITHIN), 4, "/d/offsets.bin is broken, got 3"),
        (RuntimeError(WITHIN), 1, "RuntimeError: {{function_node x}}"),
        (KeyboardInterrupt(), 75, "same command"),
        (RuntimeError("first line\nsecond"), 1, "RuntimeError: first line; next: do this"),
    ],
)
def test_translations(error, code, words):
    known = translated(error, "do this")
    assert isinstance(known, HarnessError)
    assert known.exit_code == code
    assert words in str(known)
    assert "second" not in str(known)


def test_our_own_errors_stay_as_they_are():
    error = DataError("x")
    assert translated(error, "do this") is error


def test_no_verb_ends_in_a_traceback(monkeypatch, capsys):
    def run(args):
        raise OSError(errno.ENOSPC, "No space left on device", "/r/x")

    monkeypatch.setattr("harness.cli.schema.run", run)
    assert frame.main(["schema"]) == ExitCode.STORAGE
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "no space is left" in err
    assert frame.main(["schema", "--debug"]) == ExitCode.STORAGE
    assert "Traceback" in capsys.readouterr().err


def test_a_control_c_that_was_lost_on_the_way_is_not_forgotten():
    """Python prints a KeyboardInterrupt of a destructor and goes on."""
    code = (
        "import os, signal, sys\n"
        "from harness import __main__ as entry\n"
        "from harness.worker.signals import StopSignals\n"
        "class Swallows:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "def run():\n"
        "    Swallows()\n"
        "    with StopSignals(None, print):\n"
        "        return 0\n"
        "import harness.cli.main as frame\n"
        "frame.main = run\n"
        "sys.exit(entry.main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr.endswith("harness: interrupted\n")


def test_control_c_before_the_command_line_is_there(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(frame, "main", interrupted)
    held = signal.getsignal(signal.SIGINT)
    try:
        assert entry.main() == 130
    finally:
        signal.signal(signal.SIGINT, held)
    assert capsys.readouterr().err == "harness: interrupted\n"
