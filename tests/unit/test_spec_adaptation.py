"""What a spec with an adaptation may say, and whether its target is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from spec_helpers import changed, problems

from harness.launch.planning import files_of_the_run, make
from harness.spec import load_spec
from harness.spec.existence import check_paths

TARGET = {"target": "/data/other"}
PHASE = {"name": "all", "epochs": 1, "learning_rate": 0.1}


def adapted(method: str = "coral", **sections: Any) -> dict[str, Any]:
    return changed(adaptation={"method": method, **TARGET}, **sections)


HIDDEN = {"head": {"hidden": [8]}}
UNFROZEN = {"training": {"phases": [PHASE, {**PHASE, "name": "top", "unfreeze": "last:1"}]}}
KERAS = {"backbone": {"handle": "keras:MobileNet"}}


@pytest.mark.parametrize(
    "spec",
    [
        adapted(**HIDDEN),
        adapted("mmd", **UNFROZEN),
        adapted("dann", head={"plugin": "plugin:own"}, **UNFROZEN),
        adapted("adabn", **KERAS),
        adapted("adabn"),
        adapted("adabn", head={"hidden": [8], "batch_norm": True}),
        adapted("adabn", head={"plugin": "plugin:own"}, training={"accumulate": 2}),
    ],
)
def test_what_goes_together_is_taken(spec: dict[str, Any]) -> None:
    loaded = load_spec(spec).spec
    assert loaded.adaptation is not None
    assert loaded.trains_on_target == (loaded.adaptation.method != "adabn")


@pytest.mark.parametrize(
    ("spec", "path", "said"),
    [
        (adapted(), "adaptation", "no phase unfreezes"),
        (adapted("dann", head={"plugin": "plugin:own"}), "adaptation", "no phase unfreezes"),
        (adapted("mmd", **HIDDEN, training={"accumulate": 2}), "training.accumulate", "batches"),
        (adapted("dann", **HIDDEN, training={"jit_compile": True}), "training.jit_compile", "XLA"),
        (
            adapted("coral", **HIDDEN, training={"precision": "mixed_bfloat16"}),
            "training.precision",
            "full precision",
        ),
        (
            adapted("coral", **HIDDEN, training={"feature_cache": {"copies": 1}}),
            "training.feature_cache",
            "not kept",
        ),
        (
            changed(adaptation={"method": "adabn", "weight": 0.5, **TARGET}, **KERAS),
            "adaptation.weight",
            "adds no loss",
        ),
    ],
)
def test_what_means_nothing_together_is_refused(spec: dict[str, Any], path: str, said: str) -> None:
    (problem,) = problems(spec)
    assert problem.path == path
    assert said in problem.what
    assert problem.allowed and problem.action


def test_without_an_adaptation_nothing_is_of_a_target() -> None:
    assert not load_spec(changed()).spec.trains_on_target


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    """A spec whose data are there: 2 classes of 4 pictures, and 3 of the target."""
    for number in range(4):
        for name in "ab":
            (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "train" / name / f"{number}.png").write_bytes(b"x")
    (tmp_path / "target").mkdir()
    for number in range(3):
        (tmp_path / "target" / f"{number}.png").write_bytes(b"x")
    return changed(
        data={"train": str(tmp_path / "train"), "image_size": 32},
        adaptation={"method": "coral", "target": str(tmp_path / "target")},
        **HIDDEN,
    )


def test_a_target_that_is_not_there_is_a_problem(job: dict[str, Any], tmp_path: Path) -> None:
    assert not check_paths(load_spec(job).spec)
    job["adaptation"]["target"] = str(tmp_path / "elsewhere")
    (problem,) = check_paths(load_spec(job).spec)
    assert (problem.path, problem.what) == ("adaptation.target", "does not exist")


def test_the_plan_counts_the_target_and_its_batches(job: dict[str, Any], tmp_path: Path) -> None:
    with_target = make(load_spec(job))
    assert with_target.counts["target"] == 3
    plain = make(load_spec({key: value for key, value in job.items() if key != "adaptation"}))
    assert "target" not in plain.counts
    for name in ("batch_bytes_to_device", "batch_bytes_on_device"):
        assert with_target.estimates[name] == 2 * plain.estimates[name]
    job["adaptation"]["target"] = str(tmp_path)
    (tmp_path / "target").rename(tmp_path / "gone")
    assert make(load_spec(job)).counts["target"] == 11


def test_a_target_that_cannot_be_looked_at_is_a_note(job: dict[str, Any]) -> None:
    job["adaptation"]["target"] = "/not/there"
    planned = make(load_spec(job))
    assert "target" not in planned.counts
    assert any(note.startswith("adaptation.target: /not/there") for note in planned.notes)


def test_new_statistics_are_files_of_the_run() -> None:
    plain = load_spec(changed(**KERAS)).spec
    with_statistics = load_spec(adapted("adabn", **KERAS)).spec
    assert files_of_the_run(with_statistics) == files_of_the_run(plain) + 4
