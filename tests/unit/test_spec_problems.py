"""What a wrong spec is told: every problem, at its line, in plain words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from spec_helpers import changed, paths, problems, write

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
logging:
  histograms: true
"""


def test_five_mistakes_are_five_problems_with_their_lines(tmp_path: Path) -> None:
    job = write(tmp_path, FIVE)
    found = problems(job)
    assert [(p.file, p.line, p.path) for p in found] == [
        (str(job), 2, "name"),
        (str(job), 7, "data.imagesize"),
        (str(job), 9, "head.dropout"),
        (str(job), 14, "training.optimizer.momentum"),
        (str(job), 16, "logging.histograms"),
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
        (
            {"checkpoint": {"keep_every": "9 steps"}},
            "checkpoint.keep_every",
            "this unit does not fit here",
        ),
        (
            {"checkpoint": {"keep_every": "0h"}},
            "checkpoint.keep_every",
            "a distance must be longer than 0",
        ),
        (
            {"checkpoint": {"keep_every": 2}},
            "checkpoint.keep_every",
            "must be a number with its unit",
        ),
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


@pytest.mark.parametrize(
    ("change", "path"),
    [
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
