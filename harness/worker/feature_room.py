"""Room for features in the cache: what there may be, and making it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.data.feature_room import entries, remove, to_remove
from harness.data.staging_room import room_at
from harness.errors import UsageError
from harness.runs.storage import readable_bytes

LIMIT = "HARNESS_CACHE_GB"
_USUAL_GB = 100.0


def limit_of(environment: Mapping[str, str]) -> int:
    """Bytes that the features of all runs may take: ``HARNESS_CACHE_GB``, or 100 GB.

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
    """Makes room for so many bytes of features: those that are longest unused go.

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
            f"{LIMIT} allows {readable_bytes(limit)}, and features in use take "
            f"{readable_bytes(left)}"
        )
    # A cache on a RAM disk would take the job's own memory: it is not what it is for.
    room = room_at(root, lambda: 0)
    return None if need <= room.bytes else room.why
