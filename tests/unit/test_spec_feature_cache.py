"""What a plan says of the features of a frozen backbone."""

from __future__ import annotations

from typing import Any

import pytest
from spec_helpers import changed

from harness.spec import load_spec
from harness.spec.feature_cache import planned

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
