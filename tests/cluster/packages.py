"""Whether this machine has what a test cluster is made of."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

INSTALLER = Path(__file__).resolve().parents[2] / ".ci" / "system-packages"
INSTALL = "sudo .ci/system-packages cluster"


@functools.cache
def missing_packages() -> tuple[str, ...]:
    """Names of the Debian packages that are missing."""
    done = subprocess.run(
        [INSTALLER, "--missing", "cluster"], capture_output=True, text=True, check=True
    )
    return tuple(done.stdout.split())
