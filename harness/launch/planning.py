"""What a spec would do, worked out without TensorFlow and without training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.distribute.asked import replicas_of
from harness.errors import HarnessError
from harness.launch.backbone_check import CachedBackbone, look_for_backbone
from harness.launch.planning_data import count, steps_of, to_stage
from harness.launch.planning_job import job_json, job_lines
from harness.launch.request import checked_lanes, make_request
from harness.launch.site_checks import check_by_profile
from harness.spec import Resolved, Spec, spec_digest
from harness.spec.feature_cache import planned as features_planned
from harness.spec.handles import archive_of, split_handle
from harness.train.plan import Phase, Plan, make_plan

_FLOAT_BYTES = 4
# run.json, spec.yaml, environment.lock, git.diff, attempts, heartbeat, metrics and superseded
# ones, corrupt.jsonl, harness.log, the lock, a mark; an event file for each of three splits.
_FILES_OF_A_RUN = 12 + 3
_FILES_OF_A_CHECKPOINT = 4


@dataclass(frozen=True)
class Planned:
    """Everything that ``harness plan`` prints.

    ``counts`` is empty and ``plan`` None where the data cannot be looked at here; ``notes`` then
    say why.
    """

    resolved: Resolved
    counts: dict[str, int]
    classes: tuple[str, ...]
    lanes: int
    plan: Plan | None
    estimates: dict[str, int]
    backbone: CachedBackbone | None = None
    """Of a backbone that is fetched: whether it is in the cache."""
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        spec = self.resolved.spec
        return {
            "name": spec.name,
            "spec_digest": spec_digest(spec),
            "values": {
                path: {"value": value, "source": source_of(path, self.resolved.sources)}
                for path, value in flat_values(spec).items()
            },
            "counts": self.counts,
            "classes": list(self.classes),
            "lanes": self.lanes,
            "replicas": replicas_of(spec.cluster),
            "batch_per_replica": spec.training.batch_size // replicas_of(spec.cluster),
            "phases": [_phase_json(phase) for phase in self.plan.phases] if self.plan else [],
            "total_steps": self.plan.total_steps if self.plan else None,
            "backbone": None if self.backbone is None else self.backbone.to_json(),
            "job": job_json(make_request(self.resolved), self.resolved.site),
            "estimates": self.estimates,
            "notes": self.notes,
        }


def make(resolved: Resolved) -> Planned:
    """Plans a spec; data and backbone that cannot be looked at become notes, not errors.

    Raises:
        SpecError: lanes and batch size do not fit, or the job and the profile of its site.
    """
    spec = resolved.spec
    notes = check_by_profile(resolved)
    lanes = checked_lanes(spec)
    sets, counts = count(spec, notes)
    train = None if sets is None else sets.train
    plan = None
    if train is not None:
        plan = make_plan(spec, steps_of(spec, train), replicas_of(spec.cluster))
    return Planned(
        resolved,
        counts,
        tuple(train.classes) if train is not None else (),
        lanes,
        plan,
        _estimates(spec, counts, notes) | to_stage(spec, sets, notes),
        _look_for_backbone(resolved, notes),
        notes,
    )


def _look_for_backbone(resolved: Resolved, notes: list[str]) -> CachedBackbone | None:
    try:
        found = look_for_backbone(resolved)
    except HarnessError as error:
        notes += [str(problem) for problem in error.problems]
        return None
    if found is not None:
        notes.append(str(found))
    return found


def _estimates(spec: Spec, counts: dict[str, int], notes: list[str]) -> dict[str, int]:
    found = {"files_of_the_run": files_of_the_run(spec)}
    if spec.image_sizes():
        pixels = max(
            (phase.batch_size or spec.training.batch_size) * (spec.image_size_of(at) or 0) ** 2 * 3
            for at, phase in enumerate(spec.training.phases)
        )
        pixels *= 2 if spec.trains_on_target else 1  # as many of the target
        batch = {
            "batch_bytes_to_device": pixels,
            "batch_bytes_on_device": pixels * (1 + _FLOAT_BYTES),
        }
        found = batch | found
    if spec.backbone.handle.startswith("run:"):
        return found  # it is as large as what that run has made of its backbone
    modules = {"handle": spec.backbone.handle, "preprocessor": spec.backbone.preprocessor}
    for of, handle in modules.items():
        folder = Path(split_handle(handle or "")[1] or "")
        name = "backbone_bytes" if of == "handle" else f"{of}_bytes"
        if archive_of(handle or "") is not None and folder.is_file():
            continue  # how large it is once it is unpacked, its entry in the cache says
        if folder.is_file():
            found[name] = folder.stat().st_size
        elif folder.is_absolute() and folder.is_dir():
            files = [path for path in folder.rglob("*") if path.is_file()]
            found[name] = sum(path.stat().st_size for path in files)
        elif folder.is_absolute():
            notes.append(f"backbone.{of}: there is no folder {folder}")
    return found


def files_of_the_run(spec: Spec) -> int:
    """Files that a run makes at most, without those of its jobs."""
    # One checkpoint more than are kept, since the new one is written before an old one goes.
    checkpoints = spec.checkpoint.keep + 1
    if spec.adaptation is not None and spec.adaptation.method == "adabn":
        checkpoints += 1  # with the statistics of the target
    return _FILES_OF_A_RUN + _FILES_OF_A_CHECKPOINT * checkpoints


def flat_values(spec: Spec) -> dict[str, Any]:
    """Every value of a spec by its dotted path, as plain JSON."""
    flat: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, inner in enumerate(value):
                walk(inner, f"{path}.{number}")
        else:
            flat[path] = value

    walk(spec.model_dump(mode="json", by_alias=True), "")
    return flat


def source_of(path: str, sources: Mapping[str, str]) -> str:
    """Where a value comes from: one inside of a mapping of free names is written with the whole."""
    while path not in sources and "." in path:
        path = path.rpartition(".")[0]
    return sources.get(path, "default")


def _phase_json(phase: Phase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "epochs": phase.epochs,
        "steps_per_epoch": phase.steps_per_epoch,
        "steps": phase.steps,
        "batch_size": phase.batch_size,
        "image_size": phase.image_size,
        "learning_rate": phase.learning_rate,
        "schedule": phase.schedule,
        "warmup_steps": phase.warmup_steps,
        "start_from": phase.start_from,
        "unfreeze": phase.unfreeze,
        "backbone_rate": phase.backbone_rate,
        "decay_per_block": phase.decay_per_block,
        "backbone_mode": phase.backbone_mode,
        "optimizer_state": phase.optimizer_state,
    }


def describe(planned: Planned) -> str:
    """The plan as text for a terminal."""
    spec = planned.resolved.spec
    file = planned.resolved.file
    out = [f"{spec.name}" + (f"  ({os.path.relpath(file)})" if file else "")]
    out += ["", "data"]
    out += [f"  {split:<12}{count:>10} examples" for split, count in planned.counts.items()]
    if planned.classes:
        out.append(f"  {'classes':<12}{len(planned.classes):>10}")
    replicas = replicas_of(spec.cluster)
    parts = spec.training.accumulate
    out += [
        "",
        "batches",
        f"  global batch {spec.training.batch_size}, {planned.lanes} lanes, "
        f"{spec.training.batch_size // replicas} rows on each of {replicas} "
        f"replica{'' if replicas == 1 else 's'}"
        + (f", {parts} batches to a step" if parts > 1 else ""),
    ]
    if planned.plan is not None:
        out += ["", "phases", *_phase_lines(planned.plan, spec)]
    out += ["", "job", *job_lines(make_request(planned.resolved), planned.resolved.site)]
    out += ["", "estimates"]
    out += [
        f"  {name.replace('_', ' '):<26}{_amount(name, value)}"
        for name, value in planned.estimates.items()
    ]
    out += ["", "values and where they come from"]
    values = flat_values(spec)
    width = max(map(len, values))
    for path, value in values.items():
        source = source_of(path, planned.resolved.sources)
        out.append(f"  {path:<{width}}  {value!s:<28}  {source}")
    if planned.notes:
        out += ["", "notes", *(f"  {note}" for note in planned.notes)]
    return "\n".join(out)


def _phase_lines(plan: Plan, spec: Spec) -> list[str]:
    lines, step = [], 0
    for phase in plan.phases:
        rate = f"{phase.schedule} from {phase.learning_rate:g}"
        if phase.warmup_steps:
            rate += f" after {phase.warmup_steps} warm-up steps"
        size = f"batches of {phase.batch_size}, "
        size += f"{phase.image_size} px, " if phase.image_size is not None else ""
        lines.append(
            f"  {phase.name:<12}{phase.epochs} epochs of {phase.steps_per_epoch} steps, steps "
            f"{step} to {step + phase.steps}, {size}{rate}, "
            f"from the {phase.start_from} weights"
        )
        features = features_planned(spec, phase.index)
        more = [*_trained_lines(phase), *([features] if features is not None else [])]
        lines += [f"  {'':<12}{line}" for line in more]
        step += phase.steps
    return lines


def _trained_lines(phase: Phase) -> list[str]:
    """What a phase trains beside the head, and how; nothing of one that trains the head alone."""
    if phase.unfreeze == "none":
        return []
    found = f"trains the head and {phase.unfreeze} of the backbone"
    if phase.backbone_rate is not None:
        found += f", this from {phase.backbone_rate:g}"
    if phase.decay_per_block != 1:
        found += f", times {phase.decay_per_block:g} from block to block"
    lines = [found]
    if phase.backbone_mode == "training":
        lines.append(
            "backbone in training mode: its moving averages move and its dropout draws; of a "
            "SavedModel that is all or nothing"
        )
    if phase.index > 0:
        verb = "begins anew" if phase.optimizer_state == "restart" else "is kept"
        lines.append(f"the optimizer's state {verb}")
    return lines


def _amount(name: str, value: int) -> str:
    if "bytes" not in name:
        return str(value)
    power = min(max(len(str(value)) - 1, 0) // 3, 3)
    return f"{value / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"
