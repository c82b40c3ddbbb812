"""Staging as a run has it: what is begun on every rank, and what rank 0 records of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from harness.data.packed import PackedIndex
from harness.data.packed_examples import PackedExamples
from harness.runs.paths import RunPaths
from harness.runs.record import update_record
from harness.spec import Spec
from harness.worker.datasets import Datasets
from harness.worker.making import Made
from harness.worker.notices import Notice, Notices
from harness.worker.ranks import Ranks
from harness.worker.scratch import SCRATCH, NotStaged, node_name, place_of, scratch_variables
from harness.worker.staging import Staging


def stage_beside(
    stack: ExitStack,
    paths: RunPaths,
    spec: Spec,
    made: Made,
    environment: Mapping[str, str],
    ranks: Ranks,
    say: Callable[[str], None],
) -> None:
    """Begins what ``cluster.stage`` asks for, which ends with ``stack``.

    Rank 0 says and records what all ranks tell of it, between two calls of the loop: nothing else
    may write the record then.
    """
    notices = Notices()

    def record() -> None:
        lines = notices.take()
        for line in lines:
            say(line)
        if lines:
            update_record(paths, staging=notices.by_node)

    tell: Callable[[Notice], None] = notices.add
    if ranks.first:
        ranks.on("staging", lambda rank, notice: notices.add(notice))
        made.feeds.between = record
        stack.callback(record)
    else:
        tell = partial(ranks.tell, "staging")
    processes = made.choice.distribution.topology.local_size
    staging = begin_staging(spec, made.sets, environment, processes, tell)
    if staging is not None:
        stack.callback(staging.close)


def begin_staging(
    spec: Spec,
    sets: Datasets,
    environment: Mapping[str, str],
    processes: int,
    tell: Callable[[Notice], None],
) -> Staging | None:
    """Begins what ``cluster.stage`` asks for; None where that is nothing.

    Args:
        processes: ranks on this node.
        tell: see :class:`Staging`.
    """
    if spec.cluster.stage == "none":
        return None

    def refuse(why: str) -> None:
        tell({"node": node_name(environment), "text": why})

    packed = packed_sets(sets)
    if not packed:
        refuse("nothing is staged: the data are not packed; next: `harness pack SRC DST`")
        return None
    site = spec.cluster.site if spec.cluster.stage == SCRATCH else None
    try:
        place = place_of(spec.cluster.stage, scratch_variables(site, refuse), environment)
    except NotStaged as error:
        refuse(f"nothing is staged: {error}")
        return None
    if spec.data.sensitive:
        place = replace(place, private=True)  # nothing of them is to stay on a node
    staging = Staging(place, environment, processes, tell)
    staging.begin(packed)
    return staging


def packed_sets(sets: Datasets) -> dict[str, list[PackedIndex]]:
    """The packed sets of a run by the field that names them; two fields of one set are one."""
    found: dict[str, tuple[str, list[PackedIndex]]] = {}
    for field, examples in (
        ("data.train", sets.train),
        ("data.validation", sets.validation),
        ("data.test", sets.test),
        ("adaptation.target", sets.target),
    ):
        if examples is not None and isinstance(examples.index, PackedExamples):
            packed = examples.index.packed
            found.setdefault(packed.digest, (field, []))[1].append(packed)
    return dict(found.values())
