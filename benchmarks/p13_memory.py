"""P13, memory: what the order and the index of a packed set hold, at a million examples and at
a hundred million.

The sets are synthetic: an index as pack writes it, and holes in place of what stands for each
example.  Each is opened in a process of its own, which splits it, makes the order and works out a
thousand global batches from the middle of an epoch on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import photographs
from benchmarks.rows import Row

ROOT = Path(__file__).resolve().parent.parent
SMALL, LARGE = 10**6, 10**8
EXAMPLE, SHARD = 20_000, 256 << 20
ALLOWED_MB = 50.0


def rows() -> Iterator[Row]:
    """Peak memory, MB."""
    small, large = (_peak_mb(synthetic(count)) for count in (SMALL, LARGE))
    yield Row(
        id="P13",
        work="memory that order, index and split take more at 1e8 examples than at 1e6, MB",
        peer=f"the promise, {ALLOWED_MB:.0f} MB",
        ours=max(0.0, large - small),
        theirs=ALLOWED_MB,
        target=1.0,
        better="lower",
        spread=0.0,
        note=f"whole processes: {small:,.0f} and {large:,.0f} MB",
    )


def synthetic(count: int) -> Path:
    """A packed set of ``count`` examples of 20 kB in shards of 256 MB, of which only the index is
    there: enough for all but reading."""
    from harness.data.packed import ENTRIES, INDEX, ORDER, VERSION, shard_name

    made = photographs.FOLDER / f"synthetic-{count}"
    made.mkdir(parents=True, exist_ok=True)
    each = SHARD // EXAMPLE
    shards = -(-count // each)
    numbers = [min(each, count - at * each) for at in range(shards)]
    index = {
        "harness_packed": VERSION,
        "order": ORDER,
        "classes": ["a", "b"],
        "counts": [count, 0],
        "shards": [
            {
                "file": shard_name(at, shards),
                "examples": number,
                "bytes": number * (EXAMPLE + 16),
                "sha256": f"{at:064x}",
            }
            for at, number in enumerate(numbers)
        ],
        "digest": "packed:synthetic",
        "source_digest": "synthetic",
        "content_bytes": count * EXAMPLE,
        "options": {},
        "entries": dict.fromkeys(ENTRIES, "0" * 64),
    }
    (made / INDEX).write_text(json.dumps(index))
    for name, kind in ENTRIES.items():
        with (made / name).open("wb") as file:
            file.truncate(count * int(kind[-1]))
    return made


def _peak_mb(path: Path) -> float:
    program = "from benchmarks import p13_memory; p13_memory.hold()"
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def hold() -> None:
    """What is run in a process of its own: prints its peak memory in MB."""
    import resource

    import numpy as np

    from harness.data.lanes import reading
    from harness.data.order import Order
    from harness.data.packed import INDEX, checked
    from harness.data.packed_examples import PackedExamples
    from harness.data.selection import Selection
    from harness.runs.files import read_json

    root = Path(sys.argv[1])
    packed = checked(root, read_json(root / INDEX))  # no shard is there to be looked at
    whole = PackedExamples(packed, Selection(len(packed)), packed.classes, (0, 1), packed.counts)
    train, _ = whole.split(0.1, 1)
    block, window = reading(64, whole.example_bytes)
    order = Order(len(train), 1024, 64, 1, block, window)
    middle = order.steps_per_epoch // 2
    for step in range(middle, middle + 1000, 50):
        ranks, _ = order.batch(3, np.arange(step, step + 50))
        train.selection.positions(np.unique(ranks))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
