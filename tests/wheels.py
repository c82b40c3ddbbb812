"""The wheel of this package, and a wheelhouse around it, as a site without internet has one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST_S = 900


def build_wheel(source: Path, out: Path) -> Path:
    """Builds the wheel in ``out`` from a copy, in the new folder ``source``, of the files that git
    would commit, so that a forgotten one is missed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=LONGEST_S)
    (built,) = out.glob("harness-*.whl")
    return built


def build_wheelhouse(source: Path, out: Path) -> Path:
    """The wheel, and those of what it requires, in ``out``."""
    wheel = build_wheel(source, out)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", str(out), str(wheel)], check=True, timeout=LONGEST_S)
    return out
