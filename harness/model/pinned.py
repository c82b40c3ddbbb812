"""What a backbone is held to before it is loaded: its digest, and whose it is.

Free of TensorFlow.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.errors import DataError, Problem
from harness.model.role import BACKBONE, Role
from harness.spec import Trust
from harness.spec.trust import strangers

SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")
"""One of these is in the folder of every SavedModel."""
_BLOCK_BYTES = 1 << 20


def is_saved_model(folder: Path) -> bool:
    """Whether a SavedModel is in a folder, by the names of its files."""
    return any((folder / name).is_file() for name in SAVED_MODELS)


def digest_of(folder: Path) -> str:
    """sha256 hex over the sorted relative names, sizes and contents of all files in ``folder``.

    Reads every byte: a backbone is a program, and its digest is what is trusted.
    """
    whole = hashlib.sha256(b"harness backbone 1\n")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and path.is_dir():
            # What is behind it would be neither in the digest nor looked at for its owner.
            raise DataError(
                "a folder inside of the module is a link",
                got=str(path),
                allowed="folders of its own; files may be links",
                action="copy the module as a whole (cp -rL)",
                path="backbone.handle",
            )
        if not path.is_file():
            continue
        one = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                one.update(block)
        name = os.fsencode(path.relative_to(folder).as_posix())
        whole.update(len(name).to_bytes(4, "big") + name + one.digest())
    return whole.hexdigest()


def check_trusted(folder: Path, digest: str, trust: Trust, role: Role = BACKBONE) -> None:
    """Holds that nobody else decides what is in the module: a SavedModel is a program.

    Raises:
        DataError: a file or folder of it belongs to somebody else or others may write to it,
            and neither the owner, the group nor the digest is trusted.
    """
    if digest in trust.digests:
        return
    for problem in _strange(folder, trust):
        action = (problem.action or "") + f", or add {digest} to trust.digests"
        raise DataError(replace(problem, action=action, path=role.field))


def check_owners(folder: Path, trust: Trust, role: Role = BACKBONE) -> None:
    """The same without a digest, which takes its time: where one is trusted, nothing is refused.

    Raises:
        DataError: see :func:`check_trusted`.
    """
    if trust.digests:
        return
    for problem in _strange(folder, trust):
        raise DataError(replace(problem, path=role.field))


def _strange(folder: Path, trust: Trust) -> Iterator[Problem]:
    for path in (folder, *sorted(folder.rglob("*"))):
        problem = strangers(path, path.stat(), trust, "a SavedModel")
        if problem is not None:
            yield problem


def check_digest(
    found: str, pinned: str | None, handle: str, pinned_by: str, role: Role = BACKBONE
) -> None:
    """Holds a digest against the one that was pinned earlier.

    Raises:
        DataError: they differ.
    """
    own = role == BACKBONE
    if pinned is not None and pinned.removeprefix("sha256:") != found:
        raise DataError(
            f"the {role.name} is not the one that {pinned_by} pins",
            got=f"sha256 {found[:16]}... in {handle}",
            allowed=f"sha256 {pinned.removeprefix('sha256:')[:16]}...",
            action="put the old files back, or "
            + ("fork the run / change backbone.digest on purpose" if own else "start a new run"),
            path="backbone.digest" if own else role.field,
        )
