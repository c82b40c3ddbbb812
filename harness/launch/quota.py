"""Whether the user's quota and the file system leave room for a run.

A quota is not told by the system, each site has its own command for it; its answer is read where
its form is known (see :mod:`harness.launch.quota_table`) and told as it is where it is not.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import Problem, StorageError
from harness.launch.commands import call
from harness.launch.quota_table import Quota, Use, read_quotas
from harness.launch.slurm import last_line
from harness.runs.create import NEED_BYTES
from harness.runs.mounts import Mount, here
from harness.runs.storage import check_space, owner_name, readable_bytes
from harness.spec.base import show

Found = tuple[list[Problem], list[str]]

_TIMEOUT_S = 20.0
_ELSEWHERE = "delete old runs or `harness move` them away, or choose another place with --run-dir"


def check_storage(command: Sequence[str], run_dir: Path, files: int) -> Found:
    """Problems and notes about space and quota for a run of so many files.

    How many bytes a run takes is not known before its backbone is loaded: checkpoints hold the
    head and the optimizer's state, whose size is that of the backbone's features.  So bytes are
    held against what a run takes at least, which every run is held against when it is made.

    Args:
        command: the site's quota command as words, with ``{user}`` and ``{path}`` in them; empty
            if the site names none.
        files: what the run makes at most.
    """
    place, mount = here(run_dir)
    problems = _space(place, files)
    notes = [
        f"the run makes up to {files} files; its bytes are not known before training (checkpoints "
        f"hold the head, not the frozen backbone), so room for {readable_bytes(NEED_BYTES)} was "
        "asked for"
    ]
    if not command:
        notes.append("the site names no quota_command, so your quota was not looked at")
        return problems, notes
    filled = fill(command, place)
    text, why = _ask(filled)
    if text is None:
        notes.append(f"your quota could not be looked at: {why}")
        return problems, notes
    trusted = any("{path}" in word for word in command)
    quota, why = choose(read_quotas(text), place, mount, trusted)
    if quota is None:
        said = show(" ".join(text.split()), 200) if text.strip() else "nothing"
        notes.append(f"your quota was not judged: {why}; `{' '.join(filled)}` said {said}")
        return problems, notes
    own, more = judge(quota, NEED_BYTES, files)
    return [*problems, *own], [*notes, *more]


def fill(command: Sequence[str], place: Path) -> list[str]:
    """The command with the user's login name and the folder in it."""
    user = owner_name(os.getuid())
    return [word.replace("{user}", user).replace("{path}", str(place)) for word in command]


def _space(place: Path, files: int) -> list[Problem]:
    try:
        check_space(place, NEED_BYTES)
    except StorageError as error:
        return list(error.problems)
    facts = os.statvfs(place)
    if facts.f_files > 0 and facts.f_favail < files:
        return [
            Problem(
                f"{place}: the file system has almost no files left",
                f"{facts.f_favail} free, up to {files} needed",
                action=_ELSEWHERE,
            )
        ]
    return []


def _ask(words: Sequence[str]) -> tuple[str | None, str]:
    """What the command printed, or why it did not.  ``quota`` ends with 1 for one who is over
    a limit, so an answer counts whatever the code."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = call(words, environment, _TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None, f"`{words[0]}` gave no answer within {_TIMEOUT_S:g} s"
    except (OSError, ValueError) as error:
        return None, f"`{words[0]}` cannot be run ({error})"
    if done.returncode and not read_quotas(done.stdout):
        said = last_line(done.stderr or done.stdout)
        return None, f"`{' '.join(words)}` ended with {done.returncode}: {said}"
    return done.stdout, ""


def choose(
    quotas: Sequence[Quota], place: Path, mount: Mount | None, trusted: bool
) -> tuple[Quota | None, str]:
    """The line that is about the file system of ``place``, or why there is none.

    Args:
        trusted: whether the command was asked for this very place, so that a single line is
            about it whatever its name.
    """
    if not quotas:
        return None, "its answer is of no known form, or there is no quota"
    names = {mount.point, mount.source, mount.source.rpartition("/")[2]} if mount else set[str]()
    near = [quota for quota in quotas if quota.system in names]
    # lfs quota shows the path that it was given.
    near = near or [q for q in quotas if q.system.startswith("/") and _around(q.system, place)]
    if len(near) == 1:
        return near[0], ""
    if len(quotas) == 1 and trusted:
        return quotas[0], ""
    listed = ", ".join(quota.system for quota in (near or quotas))
    return None, f"which of its lines ({listed}) is about {place} cannot be told"


def _around(system: str, place: Path) -> bool:
    return system != "/" and place.is_relative_to(system)


def judge(quota: Quota, need_bytes: int, need_files: int) -> Found:
    """Whether so much more fits."""
    problems: list[Problem] = []
    notes: list[str] = []
    checks: tuple[tuple[str, Use, int, Callable[[int], str]], ...] = (
        ("bytes", quota.bytes, need_bytes, readable_bytes),
        ("files", quota.files, need_files, str),
    )
    for kind, use, need, words in checks:
        left = use.left()
        if left is not None and left < need and quota.sure:
            what = f"your quota of {kind} on {quota.system} leaves too little for this run"
            got = f"{words(left)} left of {words(use.limit or 0)}, up to {words(need)} needed"
            problems.append(Problem(what, got, action=_ELSEWHERE))
        elif use.soft is not None and use.used + need > use.soft:
            notes.append(_over_soft(kind, use, quota, words))
    if not quota.sure:
        notes.append(f"the figures of your quota on {quota.system} are not sure, says Lustre")
    if not problems:
        notes.append(f"your quota on {quota.system} has room: {_room(quota)}")
    return problems, notes


def _over_soft(kind: str, use: Use, quota: Quota, words: Callable[[int], str]) -> str:
    return (
        f"your quota of {kind} on {quota.system} is above its soft limit with this run "
        f"({words(use.used)} of {words(use.soft or 0)} used): it allows that for a time only"
    )


def _room(quota: Quota) -> str:
    left, files = quota.bytes.left(), quota.files.left()
    room = "no limit of bytes" if left is None else f"{readable_bytes(left)} left"
    return f"{room}, " + ("no limit of files" if files is None else f"{files} files left")
