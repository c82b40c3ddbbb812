"""What a wrong spec is told: every problem, at its line, in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_helpers import MINIMAL, MINIMAL_YAML, changed, paths, problems, write

from harness.errors import ExitCode, Problem, SpecError
from harness.spec import load_spec
from harness.spec.yaml_read import MAX_BYTES, parse_yaml
from harness.train.best import mode_of

FIVE = """\
harness_spec: 1
name: bad name
backbone:
  handle: "https://tfhub.dev/x"
data:
  train: /data/train
  imagesize: 96
head:
  dropout: "0.2"
training:
  batch_size: 32
  optimizer:
    name: adam
    momentum: 0.9
  nan: skip
"""


def test_five_mistakes_are_five_problems_with_their_lines(tmp_path: Path) -> None:
    job = write(tmp_path, FIVE)
    found = problems(job)
    assert [(p.file, p.line, p.path) for p in found] == [
        (str(job), 2, "name"),
        (str(job), 7, "data.imagesize"),
        (str(job), 9, "head.dropout"),
        (str(job), 14, "training.optimizer.momentum"),
        (str(job), 15, "training.nan"),
    ]
    assert [p.what for p in found] == [
        "has the wrong form",
        "unknown key",
        "is of the wrong type",
        "adam has none",
        "not supported yet",
    ]
    assert str(found[1]).startswith(f"{job}:7: data.imagesize: unknown key, got 'imagesize', ")
    assert str(found[1]).endswith("; next: write image_size")
    assert found[2].action == "write the number without quotes"


def test_every_problem_says_what_is_next(tmp_path: Path) -> None:
    for problem in problems(write(tmp_path, FIVE)):
        assert problem.action
        assert problem.got is not None
        assert problem.allowed


@pytest.mark.parametrize(
    ("change", "path", "what"),
    [
        ({"name": 3}, "name", "is of the wrong type"),
        ({"name": "../x"}, "name", "has the wrong form"),
        ({"name": ".x"}, "name", "has the wrong form"),
        ({"name": "a\n"}, "name", "has the wrong form"),
        ({"name": "a" * 101}, "name", "is too long"),
        ({"task": "image_clasification"}, "task", "is not a task"),
        ({"task": "plugin:a/b"}, "task", "is not a task"),
        ({"training": {"seed": True}}, "training.seed", "is of the wrong type"),
        ({"training": {"seed": 1.0}}, "training.seed", "is of the wrong type"),
        ({"training": {"seed": -1}}, "training.seed", "is out of range"),
        ({"training": {"batch_size": 0}}, "training.batch_size", "is out of range"),
        ({"training": {"deterministic": "yes"}}, "training.deterministic", "is of the wrong type"),
        (
            {"training": {"jit_compile": True, "precision": "mixed_bfloat16"}},
            "training.jit_compile",
            "what XLA compiles is not rewritten to 16 bits",
        ),
        (
            {"training": {"jit_compile": True}, "task": "text_classification"},
            "training.jit_compile",
            "XLA has no operations on texts",
        ),
        ({"training": {"phases": []}}, "training.phases", "must not be empty"),
        ({"training": {"phases": {}}}, "training.phases", "is of the wrong type"),
        ({"training": {"phases": [3]}}, "training.phases.0", "is of the wrong type"),
        ({"training": {"callbacks": ["a"]}}, "training.callbacks.0", "is not a plug-in"),
        ({"training": None}, "training", "is of the wrong type"),
        ({"head": {"dropout": float("nan")}}, "head.dropout", "must be a finite number"),
        ({"head": {"hidden": [8, "x"]}}, "head.hidden.1", "is of the wrong type"),
        ({"head": {"hidden": 8}}, "head.hidden", "is of the wrong type"),
        ({"data": {"train": []}}, "data.train", "is of the wrong type"),
        ({"data": {"validation": 0.1}}, "data.validation", "is of the wrong type"),
        ({"data": {"validation": []}}, "data.validation", "is of the wrong type"),
        ({"data": {"validation": {}}}, "data.validation.fraction", "is missing"),
        ({"data": {"lanes": 3}}, "data.lanes", "must be a power of two"),
        ({"data": {"lanes": 64}}, "data.lanes", "must divide training.batch_size (32)"),
        ({"data": {"augment": {"crop_area": [0.5]}}}, "data.augment.crop_area.1", None),
        ({"data": {"augment": {"crop_area": [0.9, 0.5]}}}, "data.augment.crop_area", None),
        ({"data": {"corrupt": {"limit": 0.1}}}, "data.corrupt.limit", None),
        ({"data": {"corrupt": {"limit": "5 steps"}}}, "data.corrupt.limit", None),
        ({"checkpoint": {"every": "10 minutes"}}, "checkpoint.every", "unknown unit 'minutes'"),
        ({"checkpoint": {"every": 10}}, "checkpoint.every", "must be a number with its unit"),
        ({"checkpoint": {"every": "0.5 steps"}}, "checkpoint.every", None),
        ({"checkpoint": {"every": "0s"}}, "checkpoint.every", "a distance must be longer than 0"),
        ({"checkpoint": {"every": "0 steps"}}, "checkpoint.every", None),
        ({"checkpoint": {"every": "0.0 epochs"}}, "checkpoint.every", None),
        ({"logging": {"every": "0 steps"}}, "logging.every", "a distance must be longer than 0"),
        ({"logging": {"every": "1e-999 epochs"}}, "logging.every", None),
        (
            {"backbone": {"handle": "plugin:mine", "digest": "0" * 64}},
            "backbone.digest",
            "a plug-in has no files to pin",
        ),
        ({"backbone": {"digest": "abc"}}, "backbone.digest", "has the wrong form"),
        ({"backbone": {"options": {"a": 1}}}, "backbone.options", "only a plug-in takes options"),
        ({"head": {"plugin": "plugin:a", "hidden": [3]}}, "head.hidden", None),
        (
            {"head": {"plugin": {"plugin": "a", "options": {"x": [float("inf")]}}}},
            "head.plugin.options",
            "holds a number that is not finite",
        ),
        ({"cluster": {"partition": "a b"}}, "cluster.partition", "has the wrong form"),
        ({"cluster": {"account": "-x"}}, "cluster.account", "has the wrong form"),
        ({"cluster": {"time": 7200}}, "cluster.time", "is of the wrong type"),
        ({"cluster": {"sbatch": {"Bad key": 1}}}, "cluster.sbatch.Bad key", "is not a valid key"),
        ({"cluster": {"sbatch": {"mail-user": []}}}, "cluster.sbatch.mail-user", None),
        ({"cluster": {"sbatch": {"comment": "a\nb"}}}, "cluster.sbatch.comment", None),
        ({"cluster": {"sbatch": {"output": "x"}}}, "cluster.sbatch.output", None),
        ({"cluster": {"sbatch": {"nodes": 2}}}, "cluster.sbatch.nodes", None),
        ({"cluster": {"sbatch": {"parti": "x"}}}, "cluster.sbatch.parti", "is an abbreviation"),
        ({"cluster": {"time": "0:00:30"}}, "cluster.time", "is less than SLURM's least"),
        (
            {"cluster": {"time": "0:02:00", "signal_lead_s": 120}},
            "cluster.signal_lead_s",
            "leaves nothing of the time limit (0:02:00)",
        ),
        ({"cluster": {"time_floor": "0:10:00"}}, "cluster.time_floor", None),
        (
            {"cluster": {"time": "0:05:00", "time_floor": "0:10:00"}},
            "cluster.time_floor",
            "must not be above cluster.time",
        ),
        ({"cluster": {"cpus_per_gpu": 4}}, "cluster.cpus_per_gpu", None),
        ({"batch_size": 3}, "batch_size", "unknown key"),
        ({"harness_spec": 2}, "harness_spec", "the spec is of a newer version"),
        ({"harness_spec": "1"}, "harness_spec", "is not a version of the spec"),
        ({"harness_spec": True}, "harness_spec", "is not a version of the spec"),
        ({"harness_spec": None}, "harness_spec", "is not a version of the spec"),
    ],
)
def test_one_mistake_is_one_problem(change: dict[str, Any], path: str, what: str | None) -> None:
    (problem,) = problems(changed(**change))
    assert problem.path == path
    assert what is None or problem.what == what
    assert not re.search(r"pydantic|Input should|https?://errors", str(problem))


MODES = [
    ("val_loss", "min"),
    ("loss", "min"),
    ("val_top_5_error", "min"),
    ("val_MAE", "min"),
    ("val_rmse", "min"),
    ("val_accuracy", "max"),
    ("val_precision", "max"),
    ("val_recall", "max"),
    ("val_f1", "max"),
    ("val_macro_auc", "max"),
    ("val_dice", None),
]


@pytest.mark.parametrize("place", ["checkpoint.best", "training.early_stopping"])
@pytest.mark.parametrize(("metric", "right"), MODES)
def test_a_mode_that_keeps_the_worst_is_refused(place: str, metric: str, right: str | None) -> None:
    for mode in ("auto", "min", "max"):
        chosen = {place: {"metric": metric, "mode": mode}}
        if mode == "auto" or right in (None, mode):
            load_spec(MINIMAL, overrides=chosen)
            continue
        (problem,) = problems(MINIMAL, overrides=chosen)
        assert problem.path == f"{place}.mode"
        assert problem.got == mode
        assert problem.allowed == f"auto or {right}"


@pytest.mark.parametrize(("metric", "right"), MODES)
def test_auto_is_what_the_trainer_takes_it_for(metric: str, right: str | None) -> None:
    assert mode_of(metric, "auto") == (right or "max")


@pytest.mark.parametrize(
    "override", ["checkpoint.best={metric: val_loss}", "checkpoint.best.metric=val_loss"]
)
def test_another_metric_does_not_keep_the_mode_of_the_first(tmp_path: Path, override: str) -> None:
    best = "checkpoint: {best: {metric: val_accuracy, mode: %s}}\n"
    job = write(tmp_path, MINIMAL_YAML + best % "max")
    (problem,) = problems(job, overrides=[override])
    assert (problem.path, problem.allowed) == ("checkpoint.best.mode", "auto or min")
    job = write(tmp_path, MINIMAL_YAML + best % "auto")
    chosen = load_spec(job, overrides=[override]).spec.checkpoint.best
    assert mode_of(chosen.metric, chosen.mode) == "min"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"training": {"nan": "skip"}}, "training.nan"),
        ({"logging": {"histograms": True}}, "logging.histograms"),
        ({"logging": {"profile": {}}}, "logging.profile"),
        ({"sweep": {"parameters": {"training.seed": [1, 2]}}}, "sweep"),
    ],
)
def test_what_has_no_machinery_yet_is_refused(change: dict[str, Any], path: str) -> None:
    (problem,) = problems(changed(**change))
    assert (problem.path, problem.what) == (path, "not supported yet")
    assert problem.got
    assert problem.allowed


HUB = {"handle": "hub:/m", "preprocessor": "hub:/p"}
NAMES = {"input_word_ids": "input_ids", "input_mask": "attention_mask"}


@pytest.mark.parametrize(
    ("task", "backbone", "path", "what"),
    [
        ("text", {"max_length": 5}, "backbone.max_length", "and there is none"),
        ("text", {"inputs": NAMES}, "backbone.inputs", "and there is none"),
        ("image", HUB, "backbone.preprocessor", "is of texts, and the examples are pictures"),
        ("audio", HUB, "backbone.preprocessor", "is of texts, and the examples are recordings"),
        ("text", {**HUB, "preprocessor": "keras:VGG16"}, "backbone.preprocessor", "no SavedModel"),
        ("text", {**HUB, "preprocessor": "model:/x.h5"}, "backbone.preprocessor", "no SavedModel"),
        ("text", {**HUB, "handle": "plugin:mine"}, "backbone.preprocessor", "only a SavedModel"),
        ("text", {**HUB, "inputs": {}}, "backbone.inputs", "too few"),
        ("text", {**HUB, "inputs": {"a": "x", "b": "x"}}, "backbone.inputs", "to one input (x)"),
        ("text", {**HUB, "signature": "serving_default"}, "backbone.output", "none is chosen"),
    ],
)
def test_a_preprocessor_is_of_texts_and_has_its_own_fields(
    task: str, backbone: dict[str, Any], path: str, what: str
) -> None:
    audio = {"audio": {"rate_hz": 16000, "seconds": 1}} if task == "audio" else {}
    spec = changed(task=f"{task}_classification", backbone=backbone, data=audio)
    (problem,) = problems(spec)
    assert problem.path == path and what in problem.what


@pytest.mark.parametrize("unfreeze", ["all", "last:1", "30%", "layer_1"])
def test_a_module_of_signatures_only_cannot_be_unfrozen(unfreeze: str) -> None:
    called = {"signature": "serving_default", "output": "pooler_output", "inputs": NAMES}
    phases = [{"name": "one", "epochs": 1, "unfreeze": unfreeze}]
    spec = changed(
        task="text_classification", backbone={**HUB, **called}, training={"phases": phases}
    )
    (problem,) = problems(spec)
    assert problem.path == "training.phases.0.unfreeze"
    assert "by a signature cannot be trained" in problem.what


def test_a_misspelled_required_key_is_one_problem() -> None:
    spec = changed(backbone={"handel": "https://x.y"})
    del spec["backbone"]["handle"]
    (problem,) = problems(spec)
    assert (problem.path, problem.action) == ("backbone.handel", "write handle")


def test_a_key_from_elsewhere_says_where_it_belongs() -> None:
    (problem,) = problems(changed(batch_size=3))
    assert problem.action == "move it to training.batch_size"


def test_missing_fields_are_all_named() -> None:
    assert set(paths(problems({}))) == {"harness_spec", "name", "backbone", "data"}
    assert set(paths(problems({"harness_spec": 1, "data": {}, "backbone": {}}))) == {
        "name",
        "backbone.handle",
        "data.train",
    }


def test_checks_between_fields_are_seen_beside_wrong_fields() -> None:
    wrong = changed(
        name="a/b",
        head={"dropout": 2},
        training={
            "optimizer": {"momentum": 0.5},
            "early_stopping": {"patience": 0},
            "phases": [{"name": "a", "epochs": 0}, {"name": "a", "epochs": 1, "lr": 3}],
        },
    )
    assert set(paths(problems(wrong))) == {
        "name",
        "head.dropout",
        "training.optimizer.momentum",
        "training.early_stopping.patience",
        "training.phases.0.epochs",
        "training.phases.1.lr",
        "training.phases.1.name",
    }


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (b"", None, "the file is empty"),
        (b"# nothing\n", None, "the file is empty"),
        (b"- a\n- b\n", 1, "the spec must be a mapping of fields"),
        (b"just text\n", 1, "the spec must be a mapping of fields"),
        (b"name: \xff\xfe\n", 1, "the file is not text in UTF-8"),
        (b"a: 1\nb: \x00\n", 2, "the file is binary"),
        (b"x" * (MAX_BYTES + 1), None, "the file is too large for a spec"),
        (b"a: 1\nb: [1, 2\nc: 3\n", 3, "this is not YAML"),
        (b"a: 1\n  b: 2\n", 2, "this is not YAML"),
        (b"a: 1\n---\nb: 2\n", 2, "a second document starts here"),
        (b"%YAML 1.1\n---\na: 1\n", 1, "only YAML 1.2 is read"),
        (b"a: " + b"[" * 500, 1, "nested deeper"),
        (b"[a, b]: 1\n", 1, "a key must be a plain word"),
        (b"a: &x 1\nb:\n  <<: *x\n", 3, "merge keys (<<) are not read"),
        (b"a: *x\n", 1, "the alias *x has no value"),
        (b"a: &x [*x]\n", 1, "the alias *x has no value"),
        (
            b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + b"".join(
                b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 10))
                for i in range(6)
            ),
            5,
            "more than",
        ),
        (b"name: \x07\n", 1, "this is not YAML"),
    ],
)
def test_what_is_no_spec_at_all(
    tmp_path: Path, content: bytes, line: int | None, what: str
) -> None:
    job = write(tmp_path, content)
    (problem,) = problems(job)
    assert problem.what.startswith(what)
    assert (problem.file, problem.line) == (str(job), line)
    assert problem.action


def test_tags_and_keys_written_twice_are_named_with_the_rest(tmp_path: Path) -> None:
    text = MINIMAL_YAML + "name: again\ntraining: !!python/object:os.system {seed: x}\n"
    found = problems(write(tmp_path, text))
    assert [(p.line, p.what) for p in found] == [
        (5, "the key is written twice, first in line 2"),
        (6, "tags are not read"),
        (6, "is of the wrong type"),
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml")[0].what == "there is no such file"
    assert problems(tmp_path)[0].what.startswith("this is a folder")
    assert SpecError("x").exit_code == ExitCode.USAGE


def test_plain_aliases_are_read(tmp_path: Path) -> None:
    text = MINIMAL_YAML + "head: {hidden: &h [8, 4]}\nabout: {authors: &a [x]}\n"
    assert load_spec(write(tmp_path, text)).spec.head.hidden == (8, 4)
    document = parse_yaml("a: &x {b: [1, 2]}\nc: *x\n", "f")
    assert document.data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}
    assert document.lines[("c", "b", 1)] == 2


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-4", 0.0001),
        ("010", 10),
        ("0x1f", 31),
        ("off", "off"),
        ("no", "no"),
        ("2:00:00", "2:00:00"),
        ("2026-11-22", "2026-11-22"),
        ("~", None),
        ("", None),
        ("TRUE", True),
        ("'1'", "1"),
        ("1_000", "1_000"),
        ("9" * 400, "9" * 400),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, value: Any) -> None:
    assert parse_yaml(f"a: {written}\n", "f").data == {"a": value}
    assert type(parse_yaml(f"a: {written}\n", "f").data["a"]) is type(value)


def test_a_flood_of_problems_ends(tmp_path: Path) -> None:
    text = MINIMAL_YAML + "".join(f"k{i}: {i}\n" for i in range(3000))
    found = problems(write(tmp_path, text))
    assert 100 <= len(found) <= 300


def _problems_of(call: Callable[[], object]) -> tuple[Problem, ...]:
    """The problems that a call ends in; any other error goes through."""
    try:
        call()
    except SpecError as error:
        assert error.problems, "an error without a problem"  # noqa: PT017
        return error.problems
    return ()


PIECES = st.sampled_from(
    ["name", "training", ":", " ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&a", "*a", "!!x",
     "'", '"', "|", ">", "#", "%", "?", "\t", "\r", "\u2028", "\ufeff", "é", "1", "null", "<<",
     "---", "...", "\\", "@", "`", "data", "train", "phases", "epochs", "$(id)", ";", "../"]
)  # fmt: skip


@settings(max_examples=150)
@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=40).map("".join)))
def test_hostile_text_ends_in_a_spec_error(text: str) -> None:
    for source in (text, MINIMAL_YAML + text):
        found = _problems_of(lambda source=source: parse_yaml(source, "f"))
        assert all(problem.file == "f" for problem in found)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
PLACES = [
    "name", "about", "task", "backbone", "data", "head", "training", "adaptation", "plugins",
    "logging", "sweep", "checkpoint", "access", "cluster",
]  # fmt: skip


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(PLACES), PLAIN, max_size=4))
def test_hostile_values_end_in_a_spec_error(values: dict[str, Any]) -> None:
    for problem in _problems_of(lambda: load_spec({**MINIMAL, **values})):
        assert str(problem).isprintable()
        assert problem.what


@settings(max_examples=100)
@given(
    st.sampled_from(
        ["training", "training.phases", "training.phases.0", "data", "data.augment", "head.plugin",
         "cluster.sbatch", "backbone", "checkpoint.best", "training.optimizer", "sweep", "plugins"]
    ),
    st.one_of(st.text(max_size=6), st.sampled_from(["0", "name", "epochs", "1", "plugin", "best"])),
    PLAIN,
)  # fmt: skip
def test_hostile_overrides_end_in_a_spec_error(around: str, key: str, value: Any) -> None:
    for overrides in ({f"{around}.{key}": value}, [f"{around}.{key}={value}"]):
        for problem in _problems_of(lambda o=overrides: load_spec(MINIMAL, overrides=o)):
            assert str(problem).isprintable()


def test_nothing_of_a_hostile_spec_is_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    text = MINIMAL_YAML + f"about:\n  licence: !!python/object/apply:os.system ['touch {canary}']\n"
    assert problems(write(tmp_path, text))
    for name in (f"$(touch {canary})", f"a;touch {canary}", f"`touch {canary}`", "a\nb"):
        assert "name" in paths(problems(changed(name=name)))
    assert not canary.exists()
