"""What is asked of a pack, which examples a shard takes, and what is noted of one.  Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.data.media import IMAGE
from harness.data.packed import Shard

QUALITY = 95
"""Of a JPEG that was shrunk, where the user says nothing."""


@dataclass(frozen=True)
class PackOptions:
    """What changes the packed files.

    Attributes:
        shard_bytes: about how large a shard is.
        resize: shorter side in pixels that larger pictures are shrunk to; None leaves all as is.
        quality: of a JPEG that was shrunk, 1 to 100; None is :data:`QUALITY`.
        medium: what the examples are; only pictures are shrunk.
    """

    shard_bytes: int = 64 << 20
    resize: int | None = None
    quality: int | None = None
    medium: str = IMAGE.name

    def to_json(self) -> dict[str, int | None]:
        """What changes the files of one medium."""
        return {
            "shard_bytes": self.shard_bytes,
            "resize": self.resize,
            "quality": self.quality,
        }


@dataclass
class Written:
    """A shard that was written, as it is noted until all are there."""

    shard: Shard
    offsets: array[int]
    labels: Counter[int]
    content_bytes: int
    undecodable: list[str] = field(default_factory=list)


def shard_bounds(sizes: Sequence[int], shard_bytes: int) -> list[int]:
    """Positions at which shards begin, and the number of examples as the last; pure.

    A shard takes examples until the next one would make it larger than ``shard_bytes``, and one
    at least.
    """
    bounds, held = [0], 0
    for position, size in enumerate(sizes):
        if position > bounds[-1] and held + size > shard_bytes:
            bounds.append(position)
            held = 0
        held += size
    return [*bounds, len(sizes)]
