"""Puts a built Horovod into this Python, and the little that it imports."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from harness.errors import EnvironmentNotAble
from harness.launch.logged import Log

NEEDED_TO_RUN = ("cloudpickle", "psutil", "pyyaml", "packaging")
"""Distributions that Horovod imports."""


def installed_version() -> str | None:
    """Version of the installed Horovod; None where there is none."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("horovod")
    return None


def install(wheel: Path, environment: Mapping[str, str], log_file: Path) -> None:
    """Installs the wheel into this Python, in place of any other Horovod, and what it imports.

    Raises:
        EnvironmentNotAble: pip refuses; says why.
    """
    variables = {**environment, "PIP_USER": environment.get("PIP_USER", "0")}
    with Log(log_file) as log:
        run_pip(log, variables, "install", "--no-deps", "--force-reinstall", str(wheel),
             what="Horovod could not be installed")  # fmt: skip
        missing = [name for name in NEEDED_TO_RUN if not is_there(name)]
        if missing:
            run_pip(log, variables, "install", *missing,
                 what="what Horovod imports could not be installed")  # fmt: skip


def is_there(name: str) -> bool:
    """Whether a distribution is installed, in a version that will do."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return name != "setuptools" or 65 <= int(version.partition(".")[0]) < 81


def run_pip(
    log: Log, variables: Mapping[str, str], *words: str, what: str, action: str = ""
) -> None:
    """Runs pip of this Python.

    Args:
        what: the sentence for the user if it fails.
        action: what to do then, besides looking into the log.

    Raises:
        EnvironmentNotAble: it failed.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    if log.run(command, variables):
        raise EnvironmentNotAble(
            what, got=log.telling(), action=f"{action + '; ' if action else ''}see {log.path}"
        )
