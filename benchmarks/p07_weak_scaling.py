"""P7, weak scaling: what ranks lose by working together.

Ours is a step of two replicas that fine-tune all of MobileNetV2 on a global batch; the peer are two
processes of the same batch per replica that know nothing of one another.  Each has a core of its
own.  The figure is the images a second of both together.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.rank import BATCH, SIDE
from benchmarks.ranks import Group
from benchmarks.rows import Row, compare
from harness.distribute.horovod_built import horovod_facts, horovod_hint

STEPS, REPEATS = 1, 25
"""Single steps in turn with the peer's, many of them: what else the machine does meets both."""


def _images_per_s(group: Group) -> float:
    return 2 * STEPS * BATCH / group.seconds(STEPS)


def rows() -> Iterator[Row]:
    """Images a second of fine-tuning steps."""
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))[:2]]
    if len(cores) < 2:
        print("P7: not measured, it needs two cores", file=sys.stderr)
        return
    strategies = {"horovod": cores, "multiworker": cores, "mirrored": [",".join(cores)]}
    if horovod_facts() is None:
        print(f"P7: horovod is not measured; next: {horovod_hint()}", file=sys.stderr)
        del strategies["horovod"]
    with Group("fine-tuning", "single", cores, alone=True) as peer:
        for strategy, own in strategies.items():
            with Group("fine-tuning", strategy, own) as group:
                ours, theirs, spread = compare(
                    partial(_images_per_s, group), partial(_images_per_s, peer), REPEATS
                )
            yield Row(
                id="P7",
                work=f"two replicas fine-tune MobileNetV2, {strategy}",
                peer="two single processes of the same batch per replica",
                ours=ours,
                theirs=theirs,
                target=0.90 if strategy == "mirrored" else 0.95,
                better="higher",
                spread=spread,
                note=f"batch {BATCH} per replica, {SIDE} px, each on a core of its own",
            )
