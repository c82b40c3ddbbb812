"""The data sets of a spec, as far as planning looks at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.data.index import ExampleIndex
from harness.data.lanes import lane_count, steps_per_epoch
from harness.data.manifest_columns import ManifestOptions
from harness.data.resampling import resampling_of
from harness.data.sets import Sets, open_sets
from harness.data.unlabelled import unlabelled_index
from harness.errors import HarnessError
from harness.spec import Spec

if TYPE_CHECKING:
    from harness.data.packed_examples import PackedExamples


def steps_of(spec: Spec, train: ExampleIndex | PackedExamples) -> Callable[[int], int]:
    """Steps of an epoch by the size of a batch."""
    each_epoch, parts = _each_epoch(spec, train), spec.training.accumulate

    def steps(batch: int) -> int:
        lanes = lane_count(batch * parts, spec.data.lanes)
        return steps_per_epoch(each_epoch, batch * parts, lanes)

    return steps


def _each_epoch(spec: Spec, train: ExampleIndex | PackedExamples) -> int:
    """Examples of an epoch of training."""
    labels = train.labels if isinstance(train, ExampleIndex) else None
    resampling = resampling_of(spec.data.balance, labels, spec.training.seed)
    return len(train if resampling is None else resampling)


def count(spec: Spec, notes: list[str]) -> tuple[Sets | None, dict[str, int]]:
    """Looks at the data as training would; None if it cannot."""
    data = spec.data
    if data.source is not None or data.train is None:
        reason = "they come from a plug-in" if data.source is not None else "no data.train is named"
        notes.append(f"examples and steps are not known here: {reason}")
        return None, {}
    try:
        sets = open_sets(data, spec.training.seed, medium=spec.medium, learned=spec.learned)
    except HarnessError as error:
        notes += [str(problem) for problem in error.problems]
        return None, {}
    notes += sets.notes
    named = (("train", sets.train), ("validation", sets.validation), ("test", sets.test))
    counts = {name: len(index) for name, index in named if index is not None}
    target = _target(spec, notes)
    return sets, counts if target is None else counts | {"target": len(target)}


def _target(spec: Spec, notes: list[str]) -> ExampleIndex | PackedExamples | None:
    """The target of an adaptation; None if there is none or it cannot be looked at."""
    if spec.adaptation is None:
        return None
    try:
        options = ManifestOptions.of(spec.data, spec.medium)
        return unlabelled_index(spec.adaptation.target, options)
    except HarnessError as error:
        notes += [f"adaptation.target: {problem}" for problem in error.problems]
        return None


def to_stage(spec: Spec, sets: Sets | None, notes: list[str]) -> dict[str, int]:
    """What ``cluster.stage`` has each node copy."""
    if spec.cluster.stage == "none" or sets is None:
        return {}
    found = {
        one.digest: sum(shard.bytes for shard in one.shards)
        for index in (sets.train, sets.validation, sets.test, _target(spec, []))
        if (one := getattr(index, "packed", None)) is not None
    }
    if not found:
        notes.append("cluster.stage: the data are not packed, so nothing is staged")
    return {"bytes_to_stage": sum(found.values())}
