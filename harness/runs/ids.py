"""Run ids: the UTC second of creation and four random characters, so that ids sort by time."""

from __future__ import annotations

import datetime
import re
import secrets

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # without l, o, 0 and 1, which look alike
_PATTERN = re.compile(r"\d{8}-\d{6}-[a-z0-9]{4}")


def new_run_id(now: datetime.datetime | None = None) -> str:
    """An id such as ``20261122-013355-k3f9``.

    Args:
        now: aware time of creation; the present if None.
    """
    when = (now or datetime.datetime.now(datetime.timezone.utc)).astimezone(datetime.timezone.utc)
    tail = "".join(secrets.choice(_LETTERS) for _ in range(4))
    return f"{when:%Y%m%d-%H%M%S}-{tail}"


def looks_like_run_id(name: str) -> bool:
    """Whether ``name`` has the form of :func:`new_run_id`."""
    return _PATTERN.fullmatch(name) is not None
