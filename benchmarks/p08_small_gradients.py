"""P8, small gradients: many tensors summed over the ranks, against one of the same bytes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from benchmarks.rank import GRADIENTS
from benchmarks.ranks import Group
from benchmarks.rows import Row, compare
from harness.distribute.horovod_built import horovod_facts, horovod_hint

TIMES, REPEATS = 40, 9


def rows() -> Iterator[Row]:
    """Sums a second."""
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))[:2]]
    if len(cores) < 2 or horovod_facts() is None:
        print(f"P8: not measured, it needs two cores and: {horovod_hint()}", file=sys.stderr)
        return
    with (
        Group("gradients", "horovod", cores) as many,
        Group("flat", "horovod", cores) as one,
    ):
        ours, theirs, spread = compare(
            lambda: TIMES / many.seconds(TIMES), lambda: TIMES / one.seconds(TIMES), REPEATS
        )
    yield Row(
        id="P8",
        work=f"{GRADIENTS} small gradients summed over two Horovod ranks",
        peer="one flat allreduce of the same bytes",
        ours=ours,
        theirs=theirs,
        target=0.95,
        better="higher",
        spread=spread,
        note=f"{TIMES} in one call, 3.7 MB",
    )
