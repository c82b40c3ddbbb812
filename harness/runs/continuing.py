"""Whether a run can go on with a spec: by the resume class of each field that differs.  Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import Problem, UsageError
from harness.runs.paths import RunPaths

if TYPE_CHECKING:
    from harness.spec import Difference, Spec

# What the tensors of a checkpoint belong to: with one of these changed they fit nothing.
_SHAPES = (
    "task",
    "backbone",
    "head.hidden",
    "head.batch_norm",
    "head.plugin",
    "adaptation",
    "training.optimizer.name",
    "training.ema",
)


@dataclass(frozen=True)
class Comparison:
    """A run's spec beside another one, difference by difference."""

    differences: tuple[Difference, ...]

    @property
    def never(self) -> list[Difference]:
        """Fields that may not change in a run."""
        return [one for one in self.differences if one.resume == "never" or _shrinks(one)]

    @property
    def extended(self) -> list[Difference]:
        """Fields that ask for more than the run was to do."""
        return [one for one in self.differences if one.resume == "extend" and not _shrinks(one)]

    @property
    def can_continue(self) -> bool:
        """Whether the run goes on with the other spec."""
        return not self.never

    @property
    def can_fork(self) -> bool:
        """Whether a checkpoint of the run fits the other spec."""
        return not any(changes_shapes(one.path) for one in self.differences)


def compare(old: Spec, new: Spec) -> Comparison:
    """Puts the run's spec ``old`` beside ``new``."""
    from harness.spec import differences

    return Comparison(tuple(differences(old, new)))


def changes_shapes(path: str) -> bool:
    """Whether a checkpoint made before a change of this field is of no use after it."""
    return any(path == field or path.startswith(f"{field}.") for field in _SHAPES)


def meaning(one: Difference) -> str:
    """What a difference means for the run, in words."""
    if _shrinks(one):
        return "fewer epochs than the run was begun with: needs a fork"
    if one.resume == "free":
        return "may change: the run continues with it"
    if one.resume == "extend":
        return "asks for more: the run continues, a finished one is opened again"
    if changes_shapes(one.path):
        return "the run's weights do not fit it: needs a new run"
    return "fixed for the whole run: needs a fork"


def _shrinks(one: Difference) -> bool:
    if one.resume != "extend":
        return False
    return not (isinstance(one.old, int) and isinstance(one.new, int) and one.new > one.old)


def fork_command(paths: RunPaths, old: Spec, new: Spec) -> str:
    """The ``harness fork`` line that makes ``new`` out of the run's spec ``old``."""
    words = ["harness", "fork", str(paths.root)]
    for setting in settings(old, new):
        words += ["-o", setting]
    return shlex.join(words)


def settings(old: Spec, new: Spec) -> list[str]:
    """``-o`` settings that turn ``old`` into ``new``.

    A list of mappings (the phases) that changed its length is written as a whole, and so is a
    mapping that is there on one side only: a setting can reach into neither.
    """
    from harness.spec import differences
    from harness.spec.dump import to_yaml

    before, after = (spec.model_dump(mode="json", by_alias=True) for spec in (old, new))
    chosen: dict[str, Any] = {}
    for one in differences(old, new):
        parts: list[str] = one.path.split(".")
        depth = _common_depth(before, after, parts)
        chosen[".".join(parts[:depth])] = _value_at(after, parts[:depth])
    return [
        f"{path}={value if isinstance(value, str) else to_yaml(value).strip()}"
        for path, value in chosen.items()
    ]


def _common_depth(before: Any, after: Any, parts: Sequence[str]) -> int:
    """How many parts of the path can be followed in both, with lists of one length."""
    for depth, part in enumerate(parts):
        if isinstance(before, dict) and isinstance(after, dict):
            if part not in before or part not in after:
                return depth
            before, after = before[part], after[part]
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            before, after = before[int(part)], after[int(part)]
        else:
            return depth
    return len(parts)


def _value_at(data: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data


def refusal(paths: RunPaths, old: Spec, new: Spec, comparison: Comparison) -> UsageError:
    """The error that names each field that keeps the run from going on, and the way out."""
    problems = [
        Problem(
            "is fixed in this run" if one.resume == "never" else "can only be raised",
            got=_shown(one.new),
            allowed=f"{_shown(one.old)}, as in {paths.spec}",
            path=one.path,
        )
        for one in comparison.never
    ]
    afresh = "name another --run-dir to start a new run"
    if comparison.can_fork:
        action = f"`{fork_command(paths, old, new)}` goes on from its weights; or {afresh}"
    else:
        action = f"{afresh}; its checkpoints do not fit the changed model"
    summary = f"{paths.root}: the run was begun with another spec"
    return UsageError([*problems, Problem(summary, action=action)])


def _shown(value: Any) -> str:
    from harness.spec.base import show

    return show(value)
