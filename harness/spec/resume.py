"""What may change between the attempts of one run, and the digest of what may not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from harness.spec.layers import dotted
from harness.spec.models import Spec
from harness.spec.shape import leaves
from harness.spec.yaml_read import Where

Resume = Literal["free", "extend", "never"]
_FREE = ("cluster", "checkpoint", "logging", "access", "about")


@dataclass(frozen=True)
class Difference:
    """One field in which two specs differ; a field that only one has is None in the other."""

    path: str
    old: Any
    new: Any
    resume: Resume


def resume_class(path: str, *, phases: int | None = None) -> Resume:
    """Whether a field may change on resume: ``free``, ``extend`` or ``never``.

    Args:
        path: dotted path (``training.phases.0.epochs``).
        phases: number of phases of the run; only the last one's epochs may be extended.
            Without it, the epochs of any phase count as those of the last.
    """
    parts = path.replace("[]", ".*").split(".")
    if parts[0] in _FREE:
        return "free"
    if parts[:2] == ["training", "phases"] and parts[3:] == ["epochs"]:
        last = phases is None or not parts[2].isdigit() or int(parts[2]) == phases - 1
        return "extend" if last else "never"
    return "never"


def flat(spec: Spec) -> dict[str, Any]:
    """Every leaf of a spec by dotted path, as plain JSON values."""
    data = spec.model_dump(mode="json", by_alias=True)
    return {dotted(where) or "": value for where, value in leaves(Spec, data).items()}


def flat_places(spec: Spec) -> dict[Where, Any]:
    """Every leaf of a spec by place, as plain JSON values."""
    return leaves(Spec, spec.model_dump(mode="json", by_alias=True))


def never_fields(spec: Spec) -> dict[str, Any]:
    """The leaves that may never change on resume, by dotted path."""
    count = len(spec.training.phases)
    return {
        path: value
        for path, value in flat(spec).items()
        if resume_class(path, phases=count) == "never"
    }


def spec_digest(spec: Spec) -> str:
    """SHA-256, in hexadecimal, of the canonical JSON of the never fields.

    Canonical is: keys sorted, no spaces, ASCII with escapes, floats in their shortest form.
    """
    text = json.dumps(never_fields(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def differences(old: Spec, new: Spec) -> list[Difference]:
    """The fields in which two specs differ, in the order of the spec."""
    before, after = flat(old), flat(new)
    count = max(len(old.training.phases), len(new.training.phases))
    return [
        Difference(path, before.get(path), after.get(path), resume_class(path, phases=count))
        for path in dict.fromkeys([*before, *after])
        if path not in before or path not in after or _differ(before[path], after[path])
    ]


def _differ(one: Any, other: Any) -> bool:
    # 1 and true are equal in Python; in the digest's JSON they are not.
    return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)
