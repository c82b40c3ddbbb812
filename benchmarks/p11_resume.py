"""P11, resuming: the first batch at 90 % of an epoch, against the first batch at its beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import feeding, photographs
from benchmarks.rows import Row, compare, seconds

TIMES = 20


def rows() -> Iterator[Row]:
    """Seconds to the first batch, data set made anew each time."""
    feeding.alone()
    folder = photographs.many(TIMES)
    shards = photographs.packed(folder, f"packed-{TIMES}", "--shard-mb=64")
    for what, path in (("a folder", folder), ("shards", shards)):
        source = feeding.feed(path)
        late = int(source.steps_per_epoch * 0.9)
        for cache in ("warm", "cold"):
            sides = _first(source, late), _first(source, 0)
            if cache == "cold":
                sides = feeding.cold(path, sides[0]), feeding.cold(path, sides[1])
            ours, theirs, spread = compare(*sides, repeats=9)
            yield Row(
                id="P11",
                work=f"first batch at 90 % of an epoch, {what}, {cache}",
                peer="first batch at 0 %",
                ours=ours,
                theirs=theirs,
                target=1.1,
                better="lower",
                spread=spread,
                note=f"{len(source.index):,} photographs, step {late} of {source.steps_per_epoch}",
            )


def _first(source: Any, step: int) -> Callable[[], float]:
    def first() -> None:
        batch = next(iter(source.training(0, step, feeding.SIZE)))
        if not batch["mask"].numpy().all():
            raise AssertionError("a row of the first batch is padding or corrupt")

    return lambda: seconds(first)
