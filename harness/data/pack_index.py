"""The ``index.json`` of a packed set, from what was noted of its shards.  Free of TensorFlow."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.data.index import ExampleIndex
from harness.data.packed import ORDER, VERSION
from harness.data.packed_facts import TARGETS, facts_json


def index_json(
    plan: Mapping[str, Any],
    source: ExampleIndex,
    noted: Sequence[Mapping[str, Any]],
    entry_sums: Mapping[str, str],
) -> dict[str, Any]:
    """The object that is written.

    Args:
        plan: what was asked for.
        noted: of each shard.
        entry_sums: SHA-256 of each file with an entry for each example.
    """
    shards = [one["shard"] for one in noted]
    labels: Counter[int] = Counter()
    for one in noted:
        labels.update({int(label): count for label, count in one["labels"].items()})
    rows = range(len(source.classes))
    digest = hashlib.sha256(b"harness packed 1\n")
    facts = facts_json(source)
    for line in _digested(source.classes, shards, entry_sums if facts else {}):
        digest.update(line.encode())
    return {
        "harness_packed": VERSION,
        "order": ORDER,
        "medium": plan["medium"],
        "examples": len(source),
        "classes": list(source.classes),
        "counts": [*source.counts().values()] if facts else [*map(labels.__getitem__, rows)],
        **facts,
        "digest": f"packed:{digest.hexdigest()}",
        "missing": dict(source.missing),
        "source": plan["source"],
        "source_digest": source.digest,
        "options": plan["options"],
        "content_bytes": sum(one["content_bytes"] for one in noted),
        "undecodable": sorted(name for one in noted for name in one["undecodable"]),
        "entries": dict(entry_sums),
        "shards": shards,
    }


def _digested(
    classes: Sequence[str], shards: Sequence[dict[str, Any]], entry_sums: Mapping[str, str]
) -> Iterator[str]:
    # Neither a class nor a checksum holds a NUL.
    yield "".join(f"{name}\0" for name in classes) + "\n"
    for shard in shards:
        yield f"{shard['examples']}\0{shard['bytes']}\0{shard['sha256']}\n"
    if TARGETS in entry_sums:
        # Records hold numbers as float32, and a training takes more of them.
        yield f"{TARGETS}\0{entry_sums[TARGETS]}\n"
