"""`-o a.b=c`: typed by the schema, positions in lists, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_helpers import MINIMAL, changed, paths, problems

from harness.spec import Spec, load_spec
from harness.spec.dump import text_scalar
from harness.spec.resume import flat

PHASES = {"phases": [{"name": "a", "epochs": 1}, {"name": "b", "epochs": 2}]}


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("training.seed=7", "training.seed", 7),
        ("training.label_smoothing=0", "training.label_smoothing", 0.0),
        ("training.deterministic=true", "training.deterministic", True),
        ("name=2026", "name", "2026"),
        ("name=1e3", "name", "1e3"),
        ("name=true", "name", "true"),
        ("name=null", "name", "null"),
        ("name='12'", "name", "12"),
        ("name= spaced ", "name", "spaced"),
        ("data.test=null", "data.test", None),
        ("data.test=", "data.test", None),
        ("data.test=/2026", "data.test", "/2026"),
        ("about.licence=1.0", "about.licence", "1.0"),
        ("about.licence=a=b", "about.licence", "a=b"),
        ("head.hidden=[64, 32]", "head.hidden", [64, 32]),
        ("head.hidden=[]", "head.hidden", []),
        ("data.validation=/val", "data.validation", "/val"),
        ("data.validation=null", "data.validation", None),
        ("data.validation.fraction=0.25", "data.validation.fraction", 0.25),
        ("data.validation={fraction: 0.25}", "data.validation.fraction", 0.25),
        ("data.augment={flip: both}", "data.augment.flip", "both"),
        ("training.early_stopping.patience=9", "training.early_stopping.patience", 9),
        ("checkpoint.every=50 steps", "checkpoint.every", "50 steps"),
        ("training.phases.1.epochs=9", "training.phases.1.epochs", 9),
        ("training.phases[1].epochs=9", "training.phases.1.epochs", 9),
        ("training.phases.0={epochs: 4}", "training.phases.0.epochs", 4),
        ("training.phases.1.learning_rate=1", "training.phases.1.learning_rate", 1.0),
        ("training.feature_cache=off", "training.feature_cache", "off"),
        ("plugins=[/a/b.py, entry]", "plugins", ["/a/b.py", "entry"]),
    ],
)
def test_values_are_typed_by_the_schema(text: str, path: str, value: Any) -> None:
    found = load_spec(changed(training=PHASES), overrides=[text])
    assert flat(found.spec)[path] == value
    assert type(flat(found.spec)[path]) is type(value)
    assert found.sources[path] == "-o"


def test_a_mapping_sets_the_fields_it_names_and_leaves_the_rest() -> None:
    spec = changed(data={"augment": {"flip": "both", "hue": 0.1}})
    found = load_spec(spec, overrides=["data.augment={hue: 0.2}"]).spec
    assert (found.data.augment.flip, found.data.augment.hue) == ("both", 0.2)


def test_free_options_are_replaced_as_a_whole() -> None:
    spec = changed(backbone={"handle": "plugin:b", "options": {"a": 1, "b": 2}})
    assert load_spec(spec, overrides=["backbone.options={b: 3}"]).spec.backbone.options == {"b": 3}
    found = load_spec(spec, overrides=["backbone.options.b=x"]).spec
    assert found.backbone.options == {"a": 1, "b": "x"}


def test_from_python_dotted_or_nested() -> None:
    dotted = load_spec(MINIMAL, overrides={"training.seed": 3, "head.hidden": (8,)})
    nested = load_spec(MINIMAL, overrides={"training": {"seed": 3}, "head": {"hidden": [8]}})
    assert dotted.spec == nested.spec
    assert dotted.sources == nested.sources
    assert dotted.spec.training.seed == 3


def test_the_later_option_wins() -> None:
    found = load_spec(MINIMAL, overrides=["training.seed=3", "training.seed=4"])
    assert found.spec.training.seed == 4


@pytest.mark.parametrize(
    ("text", "path", "what"),
    [
        ("training.seed=x", "training.seed", "is of the wrong type"),
        ("training.sed=1", "training.sed", "unknown key"),
        ("training.phases.2.epochs=1", "training.phases.2", "no such position in the list"),
        ("training.phases.-1.epochs=1", "training.phases.-1", "no such position in the list"),
        ("training.phases.x=1", "training.phases.x", "no such position in the list"),
        ("training.seed.x=1", "training.seed", "is of the wrong type"),
        ("name", None, "is not a setting"),
        ("=3", None, "is not a setting"),
        ("head.hidden=[1", None, "this is not YAML"),
        ("head.hidden=!!python/name:os []", None, "tags are not read"),
        ("about={licence: a, licence: b}", None, "the key is written twice"),
        ("head.hidden=[1, x]", "head.hidden.1", "is of the wrong type"),
    ],
)
def test_what_is_refused_names_the_option(text: str, path: str | None, what: str) -> None:
    (problem,) = problems(changed(training=PHASES), overrides=[text])
    assert problem.path == path
    assert problem.what.startswith(what)
    assert str(problem).startswith("-o")
    assert problem.line is None


def test_problems_of_the_spec_and_of_options_come_together() -> None:
    found = problems(changed(nam=1), overrides=["training.seed=x", "oops"])
    assert {"nam", "training.seed", None} == set(paths(found))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=30))
def test_any_text_can_be_set_in_quotes(text: str) -> None:
    found = load_spec(MINIMAL, overrides=[f"about.licence={text_scalar(text)}"])
    assert found.spec.about.licence == text


@given(st.integers(0, 2**31 - 1), st.floats(0, 0.99), st.booleans())
def test_numbers_are_set_exactly(seed: int, dropout: float, flag: bool) -> None:
    texts = [
        f"training.seed={seed}",
        f"head.dropout={dropout!r}",
        f"training.deterministic={str(flag).lower()}",
    ]
    spec = load_spec(MINIMAL, overrides=texts).spec
    assert (spec.training.seed, spec.head.dropout) == (seed, dropout)
    assert spec.training.deterministic is flag
    same = {"training.seed": seed, "head.dropout": dropout, "training.deterministic": flag}
    assert load_spec(MINIMAL, overrides=same).spec == spec
    assert isinstance(spec, Spec)
