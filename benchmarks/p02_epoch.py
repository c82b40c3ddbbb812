"""P2, a shuffled epoch: from a folder and from shards, against Keras' data set of the folder.

Keras' ``image_dataset_from_directory`` samples pictures; ours averages them, which takes longer.
So the peer is asked for the same (``interpolation="area"``).  Cold is after the files were dropped
from memory, on the disk of this machine.  The shards for the second comparison were packed with
``--resize=256``, as one packs photographs that are trained on at 224.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import feeding, photographs
from benchmarks.rows import Row, compare


def rows() -> Iterator[Row]:
    """Photographs a second."""
    feeding.alone()
    folder = photographs.folder()
    small = photographs.packed(folder, "packed-256", "--resize=256")
    yield from _against_keras(folder, folder, "the same folder", 1.0)
    yield from _against_keras(small, folder, "shards packed with --resize=256", 1.3)


def _against_keras(path: Path, folder: Path, what: str, target: float) -> Iterator[Row]:
    ours = feeding.epochs(feeding.feed(path))
    theirs = feeding.keras(folder, "area")
    for cache in ("warm", "cold"):
        if cache == "cold":
            ours, theirs = feeding.cold(path, ours), feeding.cold(folder, theirs)
        mine, its, spread = compare(ours, theirs, repeats=7)
        yield Row(
            id="P2",
            work=f"a shuffled epoch from {what}, {cache}",
            peer="image_dataset_from_directory(interpolation='area').prefetch",
            ours=mine,
            theirs=its,
            target=target,
            better="higher",
            spread=spread,
            note=f"{photographs.COUNT} photographs, photographs a second",
        )
