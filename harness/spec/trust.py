"""Whose programs are run: one's own, root's, and those that the user config trusts.

A plug-in file and a SavedModel are programs.  Whoever owns one, or may write to it, decides what
runs in the user's name.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Problem

if TYPE_CHECKING:
    from harness.spec.config import Trust


def strangers(path: Path, facts: os.stat_result, trust: Trust, kind: str) -> Problem | None:
    """What stands against running the file that ``facts`` describe; None if nothing does.

    Args:
        path: of the file, for the message.
        facts: its owner, group and mode.
        kind: what the file is, with its article ("a plug-in").
    """
    owner, group = user_name(facts.st_uid), group_name(facts.st_gid)
    trusted = owner in trust.owners or group in trust.groups
    if facts.st_uid not in (os.geteuid(), 0) and not trusted:
        return Problem(
            f"{kind} is a program, and this one belongs to somebody else",
            got=f"{path} of {owner}",
            allowed="your own files, those of root, and trusted ones",
            action=f"copy it after reading it, or add {owner} to trust.owners in your user config",
        )
    writers = []
    if facts.st_mode & stat.S_IWOTH:
        writers.append("everybody")
    if facts.st_mode & stat.S_IWGRP and group not in trust.groups:
        writers.append(f"the group {group}")
    if writers:
        return Problem(
            f"{kind} is a program, and others may write to this one",
            got=f"{path}, writable by {' and '.join(writers)}",
            allowed="files that only their owner may write to, and trusted groups",
            action=f"chmod go-w {path.name}, or add a group to trust.groups in your user config",
        )
    return None


def user_name(uid: int) -> str:
    """The name of a user id, or its number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The name of a group id, or its number where there is none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
