"""On what a run runs: Python, installed and imported distributions, git, host."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.runs.container import container_facts

_GIT_TIMEOUT_S = 20.0
_DIFF_LIMIT = 1 << 20


def environment_facts(folder: Path | None = None) -> dict[str, Any]:
    """What the record says of the environment, at this moment.

    ``versions`` has every installed distribution of which a module is imported by now, so the
    process that trains calls this once its imports are done.

    Args:
        folder: at the creation of a run, where to look for a git repository.  ``versions`` is
            empty then: what the creating process has imported is not what will train.  Without
            it there is no ``git`` in the answer: the record keeps that of the creation.
    """
    git = {"git": git_facts(folder)} if folder is not None else {}
    return {
        "harness_version": harness_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "user": _user(),
        "cpus": _cpus(),
        "container": container_facts(),
        "versions": imported_versions() if folder is None else {},
        **git,
    }


def harness_version() -> str:
    """The package's version; not by an import, as its own module leads to every room above."""
    return str(sys.modules["harness"].__version__)


def imported_versions() -> dict[str, str]:
    """Name and version of every installed distribution of which a module is imported.

    As ``importlib.metadata.packages_distributions`` finds them, in a fifth of its time: that
    parses every line of every RECORD, here the first part of each line is enough.
    """
    imported = {name.partition(".")[0] for name in sys.modules}
    found: dict[str, str] = {}
    for name, version, one in _distributions():
        if name not in found and not imported.isdisjoint(_top_names(one)):
            found[name] = version
    return {name: found[name] for name in sorted(found, key=str.lower)}


def _distributions() -> Iterator[tuple[str, str, metadata.Distribution]]:
    """Name, version and handle of every installed distribution, in the order of sys.path.

    Only the head of each METADATA is read as text: parsing it as a mail, as importlib does for
    every attribute anew, was nine tenths of the time.
    """
    for one in metadata.distributions():
        head = (one.read_text("METADATA") or one.read_text("PKG-INFO") or "").partition("\n\n")[0]
        fields = dict(line.partition(": ")[::2] for line in reversed(head.splitlines()))
        if fields.get("Name"):
            yield fields["Name"].strip(), fields.get("Version", "").strip(), one


def _top_names(one: metadata.Distribution) -> set[str]:
    """Names of the modules that a distribution has at the top."""
    listed = one.read_text("top_level.txt")
    if listed:
        return set(listed.split())
    record = one.read_text("RECORD") or ""
    tops = {line.partition(",")[0].partition("/")[0] for line in record.splitlines()}
    return {name.partition(".")[0] for name in tops if not name.endswith((".dist-info", ".."))}


def installed_distributions() -> list[str]:
    """``name==version`` of every installed distribution, ``name @ url`` of those from no index.

    Sorted by name without regard to case, as ``pip freeze`` does.
    """
    found: dict[str, str] = {}
    for name, version, one in _distributions():
        # The first on sys.path is the one that is imported.
        if name.lower() not in found:
            origin = _direct_url(one)
            found[name.lower()] = f"{name} @ {origin}" if origin else f"{name}=={version}"
    return [found[key] for key in sorted(found)]


def _direct_url(one: metadata.Distribution) -> str | None:
    """Where a distribution came from that was not found in an index; see PEP 610."""
    import json

    text = one.read_text("direct_url.json")
    if not text:
        return None
    try:
        facts = json.loads(text)
        commit = facts.get("vcs_info", {}).get("commit_id")
        return f"{facts['vcs_info']['vcs']}+{facts['url']}@{commit}" if commit else facts["url"]
    except (ValueError, KeyError, AttributeError, TypeError):
        return "an origin that direct_url.json does not tell"


def git_facts(folder: Path) -> dict[str, Any]:
    """Commit of the repository that ``folder`` is in, and whether files differ from it.

    ``{commit, dirty}``; where there is none, ``{commit: None, dirty: None, why}``.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.SubprocessError) as error:
        return {"commit": None, "dirty": None, "why": _why(error)}
    return {"commit": commit, "dirty": dirty}


def git_diff(folder: Path) -> str:
    """Uncommitted changes of tracked files, cut to 1 MiB with a last line that says so.

    Raises:
        OSError, subprocess.SubprocessError: git cannot tell.
    """
    text = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
    if len(text) <= _DIFF_LIMIT:
        return text
    return text[:_DIFF_LIMIT] + f"\n[cut: {len(text) - _DIFF_LIMIT} more characters]\n"


def _git(folder: Path, *words: str) -> str:
    # Locks nothing in a repository that others use, and never waits for somebody to type.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(  # noqa: S603 - fixed words, no shell
        ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *words],  # noqa: S607
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_GIT_TIMEOUT_S,
        env=environment,
        check=True,
    )
    return done.stdout


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "git is not installed"
    if isinstance(error, subprocess.CalledProcessError) and error.stderr.strip():
        return str(error.stderr).strip().splitlines()[0]
    return str(error)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container that knows no name for the id
        return str(os.getuid())


def _cpus() -> int:
    """CPUs that this process may use, which in a job are fewer than the node has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
