"""What a spec says of the features of a frozen backbone, and what stands against keeping them."""

from __future__ import annotations

from typing import Any

import pytest
from spec_helpers import changed, problems

from harness.spec import load_spec
from harness.spec.feature_cache import planned
from harness.spec.models_training import FeatureCache

FROZEN = {"name": "a", "epochs": 3}
TRAINED = {"name": "b", "epochs": 1, "unfreeze": "all"}


def said(phase: int = 0, **sections: Any) -> str | None:
    return planned(load_spec(changed(**sections)).spec, phase)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({}, "reads features of its examples"),
        ({"training": {"feature_cache": "off"}}, "feature_cache is off"),
        ({"data": {"augment": {"flip": "both"}}}, "augmentation changes them anew"),
        ({"data": {"augment": {"cutmix": 1.0}}}, "mixes examples"),
        ({"data": {"source": {"plugin": "mine"}}}, "a plug-in gives the examples"),
        ({"backbone": {"handle": "plugin:mine"}}, "a plug-in makes it"),
        ({"backbone": {"handle": "keras:VGG16", "weights": "random"}}, "its weights are random"),
        ({"training": {"phases": [{"name": "a", "epochs": 1}]}}, "in its one epoch"),
        (
            {
                "data": {"augment": {"flip": "both"}},
                "training": {"feature_cache": {"copies": 3}},
            },
            "3 changed copies of each training example",
        ),
        (
            {
                "training": {
                    "feature_cache": {"copies": 1},
                    "phases": [{"name": "a", "epochs": 1}],
                }
            },
            "reads features of its examples",
        ),
    ],
)
def test_a_frozen_phase_says_what_it_reads(sections: dict[str, Any], words: str) -> None:
    found = said(**sections)
    assert found is not None
    assert words in found


@pytest.mark.parametrize(
    ("phases", "silent"),
    [
        ([FROZEN, TRAINED], [1]),
        ([TRAINED, FROZEN], [0, 1]),
        ([FROZEN, {**FROZEN, "name": "c"}], []),
    ],
)
def test_a_phase_whose_backbone_was_trained_says_nothing(
    phases: list[dict[str, Any]], silent: list[int]
) -> None:
    found = [said(at, training={"phases": phases}) for at in range(2)]
    assert [at for at, each in enumerate(found) if each is None] == silent


def test_epochs_count_together_where_the_sizes_of_pictures_are_the_same() -> None:
    one = {"name": "a", "epochs": 1}
    alike = [one, {**one, "name": "b"}]
    assert "reads features" in str(said(training={"phases": alike}))
    other = [one, {**one, "name": "b", "image_size": 64}]
    assert "in its one epoch" in str(said(training={"phases": other}))


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"training": {"phases": [{"name": "a", "epochs": 1, "unfreeze": "all"}]}}, [""]),
        ({"data": {"augment": {"mixup": 0.2}}}, [""]),
        ({"data": {"augment": {"plugins": [{"plugin": "blur"}]}}}, [""]),
        ({"data": {"source": {"plugin": "mine"}}}, [""]),
        ({"backbone": {"handle": "plugin:mine"}}, [""]),
        ({"training": {"feature_cache": {"copies": 2}}}, [".copies"]),
    ],
)
def test_a_cache_that_cannot_be_is_refused(change: dict[str, Any], paths: list[str]) -> None:
    training = {"feature_cache": {"copies": 1}, **change.get("training", {})}
    found = problems(changed(**{**change, "training": training}))
    assert [one.path for one in found] == [f"training.feature_cache{path}" for path in paths]
    assert all(one.allowed for one in found)


@pytest.mark.parametrize("chosen", ["auto", "off", {"copies": 4}, {"dtype": "float32"}])
def test_a_cache_that_can_be_is_not(chosen: Any) -> None:
    augment = {"flip": "both"} if chosen == {"copies": 4} else {}
    spec = load_spec(changed(training={"feature_cache": chosen}, data={"augment": augment})).spec
    wanted = spec.training.feature_cache
    assert wanted == chosen or wanted == FeatureCache.model_validate(chosen)
