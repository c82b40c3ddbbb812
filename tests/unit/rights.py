"""Rights and tools that some tests need: without them a test is skipped, but it fails in CI."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skips the test, or fails it where $CI is set: there a skipped test would go unseen."""
    if os.environ.get("CI"):
        pytest.fail(f"not skipped, since CI is set: {reason}", pytrace=False)
    pytest.skip(reason)


def need_root() -> None:
    """Goes on only as root."""
    if os.geteuid() != 0:
        lacking("acts as another user or group: run it as root (in a container, or under sudo)")


def needs_root(test: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a test that only root can run."""

    @functools.wraps(test)
    def guarded(*args: Any, **more: Any) -> Any:
        need_root()
        return test(*args, **more)

    return guarded


def mount_tmpfs(folder: Path, options: str) -> None:
    """Mounts a tmpfs on ``folder``; whoever calls unmounts it."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(
            "a tmpfs cannot be mounted here: run it as root with the right to mount "
            f"(in a container, CAP_SYS_ADMIN): {done.stderr.strip()}"
        )
