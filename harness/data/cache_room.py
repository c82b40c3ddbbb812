"""The cache that runs share: where it is, what it may hold, and making room in it.

Free of TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.data.feature_room import entries, remove, to_remove
from harness.data.staging_room import room_at
from harness.errors import UsageError
from harness.runs.storage import readable_bytes

LIMIT = "HARNESS_CACHE_GB"
_USUAL_GB = 100.0


def cache_there(environment: Mapping[str, str]) -> Path | None:
    """The cache of this user, which is not made: None where there is none yet.

    It is ``HARNESS_CACHE``, else ``harness`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    asked, base = environment.get("HARNESS_CACHE"), environment.get("XDG_CACHE_HOME")
    try:
        usual = Path.home() / ".cache" if not (asked or base) else Path()
        folder = Path(asked).expanduser() if asked else Path(base or usual) / "harness"
    except RuntimeError:  # no home at all
        return None
    return folder if folder.is_dir() else None


def limit_of(environment: Mapping[str, str]) -> int:
    """Bytes that what all runs keep may take: ``HARNESS_CACHE_GB``, or 100 GB.

    Raises:
        UsageError: it is no number.
    """
    said = environment.get(LIMIT, "")
    try:
        limit = float(said) if said else _USUAL_GB
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise UsageError(
            f"{LIMIT} is no size",
            got=repr(said),
            allowed="gigabytes, from 0 on",
            action=f"export {LIMIT}=200, or unset it",
        )
    return int(limit * 1e9)


def room_for(root: Path, need: int, environment: Mapping[str, str]) -> str | None:
    """Makes room for so many bytes: what is longest unused goes.

    Returns:
        Why there is none, in words; None where there is.

    Raises:
        UsageError: see :func:`limit_of`.
    """
    limit = limit_of(environment)
    if need > limit:
        return f"{LIMIT} allows {readable_bytes(limit)}"
    kept = entries(root)
    for one in to_remove(kept, limit - need):
        remove(one)
    left = sum(one.bytes for one in entries(root))
    if left + need > limit:
        return (
            f"{LIMIT} allows {readable_bytes(limit)}, and what is in use takes "
            f"{readable_bytes(left)}"
        )
    # A cache on a RAM disk would take the job's own memory: it is not what it is for.
    room = room_at(root, lambda: 0)
    return None if need <= room.bytes else room.why
