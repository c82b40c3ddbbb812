"""Calling another program: a list of words without a shell, nothing to read, a limit of time."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence


def call(
    words: Sequence[str], environment: Mapping[str, str], timeout_s: float, umask: int = -1
) -> subprocess.CompletedProcess[str]:
    """Runs one command and gives its exit code and what it printed, whatever letters that has.

    Args:
        environment: all its variables.
        umask: -1 is that of this process.

    Raises:
        OSError: it cannot be run: there is none, it may not be, or its words are too long.
        subprocess.TimeoutExpired: it took longer, and was killed.
        ValueError: a word holds a zero byte.
    """
    return subprocess.run(  # noqa: S603 - a list of words, no shell
        words,
        env=dict(environment),
        umask=umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )
