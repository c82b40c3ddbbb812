"""What ``harness inspect`` has found, as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.runs.storage import readable_bytes

if TYPE_CHECKING:
    from harness.data.inspect import Inspection, Pictures, Spread

_CLASSES = 30
"""Classes that are listed; of more, half of it from both ends."""
_BROKEN = 20


def lines_of(found: Inspection) -> list[str]:
    """The whole of it, line by line."""
    one, many = ("class", "classes") if found.several is None else ("label", "labels")
    if found.targets:
        many = "target" if len(found.targets) == 1 else "targets"
    lines = [f"{found.where}: {found.examples:,} examples of {len(found.counts)} {many}"]
    lines += [f"  {line}" for line in (_targets(found) if found.targets else _classes(found))]
    if found.imbalance is not None:
        lines.append(f"  the largest {one} has {found.imbalance:.3g} times the smallest")
    if found.file_bytes is not None:
        spread, total = found.file_bytes, readable_bytes(found.total_bytes)
        least, median, most = map(readable_bytes, (spread.least, spread.median, spread.most))
        lines.append(f"files      {total} in all, {least} to {most} each, median {median}")
    if found.ignored:
        kinds = (
            f"{count} .{kind}" if kind else f"{count} without extension"
            for kind, count in found.ignored.items()
        )
        lines.append(f"left out   {', '.join(kinds)}")
    lines += [f"note       {note}" for note in found.notes]
    lines.append(f"digest     {found.digest}")
    return lines + _looked(found)


def _classes(found: Inspection) -> list[str]:
    ranked = sorted(found.counts.items(), key=lambda item: (-item[1], item[0]))
    width = max(len(name) for name, _ in ranked)
    shown = [
        f"{name:<{width}}  {count:>9,}  {100 * count / found.examples:5.1f}%"
        for name, count in ranked
    ]
    if len(shown) <= _CLASSES:
        return shown
    half = _CLASSES // 2
    return [*shown[:half], f"... {len(shown) - 2 * half} more ...", *shown[-half:]]


def _targets(found: Inspection) -> list[str]:
    width = max(map(len, found.targets))
    return [
        f"{name:<{width}}  {one.known:>9,}"
        + (
            f"  {one.least:.6g} to {one.most:.6g}, mean {one.mean:.6g}, deviation {one.std:.6g}"
            if one.known
            else ""
        )
        for name, one in found.targets.items()
    ]


def _looked(found: Inspection) -> list[str]:
    looked = found.looked
    if looked is None:
        return []
    done = "decoded" if found.pictures is not None else "read   "
    lines = [f"{done}    {looked.looked_at:,} of {found.examples:,}"]
    lines += _pictures(found.pictures) if found.pictures is not None else []
    if found.texts is not None and found.texts.characters is not None:
        assert found.texts.words is not None, "the two are counted together"
        lines.append(f"characters {_range(found.texts.characters)}")
        lines.append(f"words      {_range(found.texts.words)}")
    if found.recordings is not None and found.recordings.milliseconds is not None:
        lines.append(f"length     {_range(found.recordings.milliseconds)} ms")
    lines.append(f"broken     {len(looked.broken):,}")
    if found.sensitive:
        return lines + [f"  {count:,} {reason}" for reason, count in looked.reasons().items()]
    named = [f"  {name}: {reason}" for name, reason in looked.broken.items()]
    more = len(named) - _BROKEN
    return lines + named[:_BROKEN] + ([f"  and {more:,} more, see --json"] if more > 0 else [])


def _pictures(pictures: Pictures) -> list[str]:
    lines = []
    if pictures.heights is not None and pictures.widths is not None:
        height, width = _range(pictures.heights), _range(pictures.widths)
        lines.append(f"pixels     height {height}, width {width}")
    if pictures.kinds:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in pictures.kinds.items())
        lines.append(f"kinds      {kinds}")
    return lines


def _range(spread: Spread) -> str:
    if spread.least == spread.most:
        return f"{spread.least}"
    return f"{spread.least} to {spread.most} (median {spread.median})"
