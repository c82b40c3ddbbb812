"""Dump and load, the digest, what may change on resume, durations, migration."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_helpers import MINIMAL, changed, write

from harness.errors import SpecError, UsageError
from harness.spec import (
    Duration,
    Spec,
    differences,
    dump_spec,
    load_spec,
    never_fields,
    resume_class,
    spec_digest,
    spec_from_file_resolved,
)
from harness.spec import migrate as migration
from harness.spec.dump import to_yaml
from harness.spec.layers import Tree
from harness.spec.yaml_read import parse_yaml

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PATHS = TEXTS.map(lambda text: "/" + text.replace("$", "$$"))

FREE: dict[str, st.SearchStrategy[Any]] = {
    "checkpoint.every": st.sampled_from(["5min", "20 steps", "1 epochs", "0.5 epochs"]),
    "checkpoint.keep": st.integers(1, 1000),
    "checkpoint.best.metric": st.sampled_from(["val_loss", "loss"]),
    "logging.every": st.sampled_from(["1 steps", "2 epochs"]),
    "logging.images": st.booleans(),
    "access": st.sampled_from(["private", "group"]),
    "about.authors": st.lists(TEXTS, max_size=3),
    "about.licence": st.none() | TEXTS,
    "cluster.device": st.sampled_from(["auto", "cpu", "gpu"]),
    "cluster.strategy": st.sampled_from(["auto", "single"]),
}
FIXED: dict[str, st.SearchStrategy[Any]] = {
    "name": NAMES,
    "data.train": PATHS,
    "data.test": st.none() | PATHS,
    "data.validation": st.none() | st.floats(0.01, 0.9).map(lambda f: {"fraction": f}),
    "data.image_size": st.integers(8, 8192),
    "data.augment.crop_area": st.none() | st.floats(0.1, 1).map(lambda low: [low, 1.0]),
    "data.sensitive": st.booleans(),
    "head.hidden": st.lists(st.integers(1, 10**6), max_size=3),
    "head.dropout": st.floats(0, 0.99),
    "training.seed": st.integers(0, 2**31 - 1),
    "training.optimizer.name": st.sampled_from(["adam", "adamw", "sgd"]),
    "training.schedule.warmup": st.sampled_from(["5%", "3 steps", "0.1 epochs"]),
    "training.callbacks": st.lists(
        st.fixed_dictionaries({"plugin": NAMES, "options": st.dictionaries(TEXTS, PLAIN)}),
        max_size=2,
    ),
    "training.phases": st.lists(
        st.fixed_dictionaries(
            {"epochs": st.integers(1, 100), "learning_rate": st.floats(1e-9, 1000)}
        ),
        min_size=1,
        max_size=3,
    ).map(lambda phases: [{"name": f"p{i}", **phase} for i, phase in enumerate(phases)]),
}


@st.composite
def settings_of(draw: st.DrawFn, table: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    """Values for some of the fields of a table."""
    chosen = draw(st.sets(st.sampled_from(sorted(table))))
    return {path: draw(table[path]) for path in sorted(chosen)}


@settings(max_examples=60)
@given(settings_of({**FREE, **FIXED}))
def test_a_dumped_spec_loads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    if values.get("data.validation", 1) is None:
        values["checkpoint.best.metric"] = "loss"
    spec = load_spec(MINIMAL, overrides=values).spec
    job = tmp_path_factory.mktemp("dump") / "spec.yaml"
    job.write_text(dump_spec(spec), encoding="utf-8")
    assert load_spec(job).spec == spec
    again = spec_from_file_resolved(job)
    assert again == spec
    assert spec_digest(again) == spec_digest(spec)
    assert dump_spec(again) == dump_spec(spec)


@given(PLAIN)
def test_any_plain_data_survives_yaml(value: Any) -> None:
    read = parse_yaml(to_yaml({"key": value}), "f").data["key"]
    assert read == value
    assert json.dumps(read) == json.dumps(value)


@settings(max_examples=60)
@given(settings_of(FREE))
def test_free_changes_leave_the_digest_alone(values: dict[str, Any]) -> None:
    old, new = load_spec(MINIMAL).spec, load_spec(MINIMAL, overrides=values).spec
    assert spec_digest(old) == spec_digest(new)
    found = differences(old, new)
    assert {d.resume for d in found} <= {"free"}
    assert {d.path for d in found} <= set(values)


@settings(max_examples=60)
@given(settings_of(FIXED))
def test_other_changes_change_the_digest_and_are_named(values: dict[str, Any]) -> None:
    if values.get("data.validation", 1) is None:
        values["checkpoint.best.metric"] = "loss"
    old, new = load_spec(MINIMAL).spec, load_spec(MINIMAL, overrides=values).spec
    never = [d for d in differences(old, new) if d.resume == "never"]
    assert (spec_digest(old) != spec_digest(new)) == bool(never)
    assert (never_fields(old) != never_fields(new)) == bool(never)


def phases(*epochs: int) -> Spec:
    listed = [{"name": f"p{i}", "epochs": count} for i, count in enumerate(epochs)]
    return load_spec(changed(training={"phases": listed})).spec


def test_only_the_last_phase_may_be_extended() -> None:
    base = phases(1, 2)
    assert spec_digest(base) == spec_digest(phases(1, 5))
    assert spec_digest(base) != spec_digest(phases(3, 2))
    assert spec_digest(base) != spec_digest(phases(1, 2, 2))
    (found,) = differences(base, phases(1, 5))
    assert (found.path, found.old, found.new, found.resume) == (
        "training.phases.1.epochs",
        2,
        5,
        "extend",
    )
    (found,) = differences(base, phases(3, 2))
    assert found.resume == "never"
    added = differences(base, phases(1, 2, 2))
    assert {d.path.rpartition(".")[0] for d in added} == {"training.phases.2"}
    assert "never" in {d.resume for d in added}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("cluster.nodes", "free"),
        ("checkpoint.best.metric", "free"),
        ("checkpoint.keep_every", "free"),
        ("logging.every", "free"),
        ("access", "free"),
        ("about.authors", "free"),
        ("training.phases.0.epochs", "extend"),
        ("training.phases[].epochs", "extend"),
        ("training.phases.0.name", "never"),
        ("training.seed", "never"),
        ("data.train", "never"),
        ("name", "never"),
        ("plugins", "never"),
    ],
)
def test_resume_classes(path: str, wanted: str) -> None:
    assert resume_class(path) == wanted


def test_the_digest_is_a_promise() -> None:
    # A changed digest makes every run that exists refuse to be continued.
    text = json.dumps(never_fields(load_spec(MINIMAL).spec), sort_keys=True, separators=(",", ":"))
    import hashlib

    digest = spec_digest(load_spec(MINIMAL).spec)
    assert digest == hashlib.sha256(text.encode()).hexdigest()
    assert len(digest) == 64


def test_a_difference_of_type_is_a_difference() -> None:
    one = load_spec(changed(backbone={"handle": "plugin:a", "options": {"x": 1}})).spec
    other = load_spec(changed(backbone={"handle": "plugin:a", "options": {"x": True}})).spec
    assert [d.path for d in differences(one, other)] == ["backbone.options"]
    assert spec_digest(one) != spec_digest(other)


def test_a_resolved_spec_is_read_strictly(tmp_path: Path) -> None:
    job = write(tmp_path, "harness_spec: 1\nname: x\nextra: 1\n")
    with pytest.raises(SpecError) as caught:
        spec_from_file_resolved(job)
    assert {p.path for p in caught.value.problems} == {"extra", "backbone", "data"}


@pytest.mark.parametrize(
    ("text", "value", "unit", "shown"),
    [
        ("10min", 600, "s", "10min"),
        ("2h", 7200, "s", "2h"),
        ("90 min", 5400, "s", "90min"),
        ("30s", 30, "s", "30s"),
        ("0.5s", 0.5, "s", "0.5s"),
        ("0s", 0, "s", "0s"),
        ("50 steps", 50, "steps", "50 steps"),
        ("1 step", 1, "steps", "1 steps"),
        ("3 epochs", 3, "epochs", "3 epochs"),
        ("0.1 epochs", 0.1, "epochs", "0.1 epochs"),
        ("5%", 5, "percent", "5%"),
        ("0.1%", 0.1, "percent", "0.1%"),
    ],
)
def test_durations(text: str, value: float, unit: str, shown: str) -> None:
    duration = Duration.parse(text)
    assert (duration.value, duration.unit, str(duration)) == (value, unit, shown)
    assert duration.seconds == (value if unit == "s" else None)


@pytest.mark.parametrize(
    "text",
    ["", "5", "min", "-5s", "5 parsecs", "1.5 steps", "101%", "nan s", "inf s", "1e999s", "5s 5s"],
)
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError):
        Duration.parse(text)


@given(
    st.one_of(
        st.builds(Duration, st.floats(0, 1e12), st.just("s")),
        st.builds(Duration, st.floats(0, 1e12), st.just("epochs")),
        st.builds(Duration, st.integers(0, 10**12).map(float), st.just("steps")),
        st.builds(Duration, st.floats(0, 100), st.just("percent")),
    )
)
def test_durations_read_back_exactly(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("7 steps", 7),
        ("2 epochs", 20),
        ("0.5 epochs", 5),
        ("5%", 10),
        ("0.01 epochs", 1),
        ("1e-99 epochs", 1),
        ("0.1%", 1),
        ("0 steps", 0),
        ("0 epochs", 0),
        ("0%", 0),
    ],
)
def test_durations_in_steps(text: str, steps: int) -> None:
    assert Duration.parse(text).steps(steps_per_epoch=10, total_steps=200) == steps


@given(
    st.floats(0, 100),
    st.sampled_from(["epochs", "percent"]),
    st.integers(1, 1000),
    st.integers(1, 10**6),
)
def test_only_a_length_of_zero_has_no_steps(
    value: float, unit: Any, steps_per_epoch: int, total_steps: int
) -> None:
    steps = Duration(value, unit).steps(steps_per_epoch, total_steps)
    exact = value * steps_per_epoch if unit == "epochs" else value / 100 * total_steps
    assert (steps == 0) == (value == 0)
    assert steps == 1 or abs(steps - exact) <= 0.5


def test_a_time_has_no_steps() -> None:
    with pytest.raises(UsageError):
        Duration.parse("5s").steps(10, 100)
    assert math.isclose(Duration.parse("1.5h").value, 5400)


def test_an_older_version_is_migrated_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(tree: Tree) -> None:
        origin = tree.origin(("title",))
        assert origin is not None
        tree.put(("name",), tree.data["title"], origin)
        tree.remove(("title",))

    monkeypatch.setitem(migration.MIGRATIONS, 0, rename)
    old = {**MINIMAL, "harness_spec": 0, "title": "older"}
    del old["name"]
    spec = load_spec(old).spec
    assert (spec.harness_spec, spec.name) == (1, "older")
