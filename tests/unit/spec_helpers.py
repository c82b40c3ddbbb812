"""A small valid spec, and ways to write, change and refuse one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from harness.errors import Problem, SpecError
from harness.spec import load_spec

MINIMAL: dict[str, Any] = {
    "harness_spec": 1,
    "name": "textures",
    "backbone": {"handle": "https://tfhub.dev/google/imagenet/mobilenet_v2/5"},
    "data": {"train": "/data/train"},
}

MINIMAL_YAML = """\
harness_spec: 1
name: textures
backbone: {handle: "https://tfhub.dev/google/imagenet/mobilenet_v2/5"}
data: {train: /data/train}
"""


def changed(**sections: Any) -> dict[str, Any]:
    """The minimal spec with some top keys replaced, or mappings laid over them."""
    spec = copy.deepcopy(MINIMAL)
    for key, value in sections.items():
        if isinstance(value, dict) and isinstance(spec.get(key), dict):
            spec[key] = {**spec[key], **value}
        else:
            spec[key] = value
    return spec


def write(folder: Path, text: str | bytes, name: str = "job.yaml") -> Path:
    """A file of this text."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(source: Any, **options: Any) -> tuple[Problem, ...]:
    """What is wrong with a spec that must not load."""
    with pytest.raises(SpecError) as caught:
        load_spec(source, **options)
    return caught.value.problems


def paths(found: tuple[Problem, ...]) -> list[str | None]:
    """The dotted paths of problems."""
    return [problem.path for problem in found]
