"""Times as they are written in the files of a run: UTC, ISO 8601, milliseconds, a final Z."""

from __future__ import annotations

import datetime

UTC = datetime.timezone.utc


def utc_now() -> str:
    """The time now, such as ``2026-11-22T01:33:55.120Z``."""
    return format_time(datetime.datetime.now(UTC))


def format_time(when: datetime.datetime) -> str:
    """``when`` (aware) in UTC, as :func:`utc_now` writes it."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime.datetime:
    """The aware time that :func:`format_time` wrote.

    Raises:
        ValueError: the text is no ISO time.
    """
    # Python 3.10's fromisoformat knows no Z.
    when = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def seconds_since(text: str, now: datetime.datetime | None = None) -> float:
    """Seconds from the written time to ``now``; below zero where another host's clock is ahead."""
    return ((now or datetime.datetime.now(UTC)) - parse_time(text)).total_seconds()


def words_for(seconds: float) -> str:
    """A length of time for people: ``4 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
