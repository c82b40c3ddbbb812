"""Phases and the strategies that stand for them, as the spec has them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.spec import load_spec
from harness.spec.strategies import NAMES, phases_of
from tests.unit.spec_helpers import changed, paths, problems


@pytest.mark.parametrize(
    "text", ["none", "all", "last:1", "last:12", "30%", "0.5%", "100%", "conv"]
)
def test_what_unfreeze_takes(text: str) -> None:
    spec = changed(training={"phases": [{"name": "a", "epochs": 1, "unfreeze": text}]})
    assert load_spec(spec).spec.training.phases[0].unfreeze == text


@pytest.mark.parametrize("text", ["last:0", "last:", "last:x", "0%", "101%", "(", "", " ", "a\nb"])
def test_what_it_refuses(text: str) -> None:
    (problem,) = problems(
        changed(training={"phases": [{"name": "a", "epochs": 1, "unfreeze": text}]})
    )
    assert problem.path == "training.phases.0.unfreeze"
    assert "last:N" in str(problem.allowed)


@pytest.mark.parametrize(
    ("phase", "field"),
    [
        ({"learning_rate": {"head": 1e-3, "backbone": 1e-4}}, "learning_rate"),
        ({"backbone_mode": "training"}, "backbone_mode"),
    ],
)
def test_what_a_frozen_backbone_has_not(phase: dict[str, Any], field: str) -> None:
    phases = [{"name": "a", "epochs": 1, **phase}]
    assert paths(problems(changed(training={"phases": phases}))) == [f"training.phases.0.{field}"]
    phases[0]["unfreeze"] = "all"
    load_spec(changed(training={"phases": phases}))


def test_a_signature_cannot_be_unfrozen() -> None:
    backbone = {"handle": "hub:/x", "signature": "serving_default", "output": "y"}
    phases = [{"name": "a", "epochs": 1}, {"name": "b", "epochs": 1, "unfreeze": "all"}]
    (problem,) = problems(changed(backbone=backbone, training={"phases": phases}))
    assert problem.path == "training.phases.1.unfreeze"
    assert "signature" in problem.what


def test_lanes_divide_the_batches_of_all_phases() -> None:
    phases = [{"name": "a", "epochs": 1, "batch_size": 24}]
    spec = changed(data={"train": "/t", "lanes": 16}, training={"phases": phases, "batch_size": 32})
    (problem,) = problems(spec)
    assert problem.path == "data.lanes"
    assert "training.phases.0.batch_size (24)" in problem.what


@pytest.mark.parametrize("strategy", NAMES)
def test_every_strategy_is_a_list_of_phases(strategy: str) -> None:
    phases = load_spec(changed(training={"strategy": strategy})).spec.training.phases
    assert [phase.name for phase in phases] == [each["name"] for each in phases_of(strategy, 224)]
    assert phases[0].start_from == "last"


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(224, [128, 160, 224]), (96, [64, 96]), (64, [32, 64]), (32, [32]), (16, [16])],
)
def test_pictures_grow_to_the_size_of_the_data(size: int, sizes: list[int]) -> None:
    spec = changed(
        training={"strategy": "progressive_resize"}, data={"train": "/t", "image_size": size}
    )
    found = load_spec(spec).spec
    assert [phase.image_size for phase in found.training.phases] == sizes
    assert found.image_sizes() == tuple(sorted(set(sizes)))


def test_texts_do_not_grow() -> None:
    spec = changed(task="text_classification", training={"strategy": "progressive_resize"})
    (problem,) = problems(spec)
    assert problem.path == "training.strategy"
    assert "multi_step" in str(problem.allowed)


def test_a_size_that_is_none_is_refused_where_it_stands() -> None:
    data = {"train": "/t", "image_size": "large"}
    spec = changed(training={"strategy": "progressive_resize"}, data=data)
    assert paths(problems(spec)) == ["data.image_size"]
