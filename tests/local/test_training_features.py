"""Runs whose frozen backbone is computed once: the same results, and later runs begin with them."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import assert_all, group, start_ranks
from tests.local.training_helpers import (
    CLASSES,
    assert_equal_losses,
    assert_same_result,
    call,
    lines,
    mischief,
    record,
    write_spec,
)
from tests.local.training_helpers import (
    run_here as run,
)

COPIES = {"copies": 2, "dtype": "float32"}
EMA = {"decay": 0.8}
PLATEAU = {"name": "plateau", "metric": "val_loss", "patience": 1, "factor": 0.5, "min_delta": 9.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


def write(folder: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    """Without augmentation, features chosen by the harness, and averages of the weights."""
    chosen = {"training.feature_cache": "auto", "data.augment": {}, "training.ema": EMA, **changes}
    return write_spec(folder, backbone, data, **chosen)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cached(
    tiny_backbone: Path, data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A spec whose run has computed its features."""
    spec = write(tmp_path_factory.mktemp("cached"), tiny_backbone, data)
    said = run(spec, cache)
    assert "computes the features of the train and validation examples once" in said
    assert "computes the features of the test examples once" in said
    return spec


def test_the_figures_are_those_without(
    cached: Path, cache: Path, tiny_backbone: Path, data: Path, tmp_path: Path
) -> None:
    plain = write(tmp_path, tiny_backbone, data, **{"training.feature_cache": "off"})
    assert "feature cache" not in run(plain, cache)
    assert_equal_losses(plain.parent / "run", cached.parent / "run")
    for name, value in record(plain)["final"].items():
        assert record(cached)["final"][name] == pytest.approx(value, rel=1e-5)
    noted = record(cached)["feature_cache"]
    assert noted["train"] == noted["validation"] != noted["test"]
    assert noted["train"]["shape"] == [16]
    assert noted["train"]["dtype"] == "float32"
    assert record(plain)["feature_cache"] == {}


def test_a_later_run_with_another_head_finds_them(
    cached: Path, cache: Path, tiny_backbone: Path, data: Path, tmp_path: Path
) -> None:
    before = {p: p.stat().st_mtime_ns for p in cache.glob("features/*/chunk-*")}
    changes = {"head": {"hidden": []}, "training.seed": 9, "training.batch_size": 4}
    spec = write(tmp_path, tiny_backbone, data, **changes)
    said = run(spec, cache)
    assert "features of the train and validation examples found" in said
    assert "features of the test examples found" in said
    assert {p: p.stat().st_mtime_ns for p in cache.glob("features/*/chunk-*")} == before
    assert record(spec)["feature_cache"] == record(cached)["feature_cache"]


def test_an_evaluation_gives_the_figures_of_the_run(cached: Path) -> None:
    code, out, err = call("evaluate", str(cached.parent / "run"), "--json")
    assert code == 0, err
    wanted = record(cached)["final"]["test_loss"]
    assert json.loads(out)["metrics"]["loss"] == pytest.approx(wanted, rel=1e-5)


def test_the_figures_are_those_of_the_averages(cached: Path) -> None:
    """Of the best checkpoint; the weights beside them are others."""
    from harness.runs.paths import RunPaths
    from harness.spec import Trust
    from harness.worker.load import load_run

    kept = record(cached)["best"]["step"]
    paths = RunPaths(cached.parent / "run")
    loaded = load_run(paths, Trust())
    (folder,) = paths.checkpoints.glob(f"step-{kept:08}")
    reader = tf.train.load_checkpoint(str(folder / "tensors"))
    moved = 0
    for name, variable in loaded.model.state().items():
        raw, average = (reader.get_tensor(f"{kind}/{name}") for kind in ("model", "average"))
        np.testing.assert_array_equal(variable.numpy(), average)
        moved += not np.array_equal(raw, average)
    assert moved == 4


@pytest.fixture(scope="module")
def undisturbed(
    tiny_backbone: Path, data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that goes round two changed copies of its examples."""
    folder = tmp_path_factory.mktemp("undisturbed")
    changes = {"training.feature_cache": COPIES, "training.schedule": PLATEAU, "training.ema": EMA}
    changes |= mischief(folder)
    spec = write_spec(folder, tiny_backbone, data, **changes)
    said = run(spec, cache)
    assert "train examples (changed copy 2 of 2)" in said
    assert "val_loss got no better: rates are 0.5 of the phase's now" in said
    found = lines(folder / "run" / "metrics.jsonl")
    rates = {
        line["learning_rate"]
        for line in found
        if line.get("phase") == "one" and "learning_rate" in line
    }
    assert sorted(rates, reverse=True)[:2] == pytest.approx([0.01, 0.005])
    return folder / "run"


@pytest.mark.parametrize("at", [11])
def test_killed_it_ends_with_the_same_bits(
    at: int, undisturbed: Path, tiny_backbone: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    options = mischief(tmp_path, at=at, number=9)
    changes = {"training.feature_cache": COPIES, "training.schedule": PLATEAU, "training.ema": EMA}
    changes |= options
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    run(spec, cache, code=-signal.SIGKILL, alone=True)
    assert "examples found" in run(spec, cache).replace("(changed copy 1 of 2) found", "found")
    assert_same_result(tmp_path / "run", undisturbed)


def test_as_many_copies_as_epochs_are_the_run_without(
    undisturbed: Path, tiny_backbone: Path, data: Path, tmp_path: Path
) -> None:
    phases = [{"name": "one", "epochs": 2, "learning_rate": 0.01}]
    runs = []
    for name, chosen in (("plain", "off"), ("copies", COPIES)):
        (tmp_path / name).mkdir()
        changes = {"training.feature_cache": chosen, "training.phases": phases}
        spec = write_spec(tmp_path / name, tiny_backbone, data, **changes)
        run(spec, tmp_path / "cache")
        runs.append(spec.parent / "run")
    assert_equal_losses(*runs)


@pytest.mark.parametrize("strategy", ["mirrored", "horovod", "multiworker"])
def test_many_replicas_compute_and_read_them_together(
    strategy: str, cached: Path, tiny_backbone: Path, data: Path, tmp_path: Path
) -> None:
    spec = write(tmp_path, tiny_backbone, data)
    changed = (f"-o=cluster.strategy={strategy}",)
    if strategy == "mirrored":
        run(spec, tmp_path / "cache", *changed, "-o=cluster.replicas_per_rank=2", alone=True)
    else:
        if strategy == "horovod":
            need_horovod("gloo")
        command = ["run", str(spec), "--run-dir", str(tmp_path / "run"), *changed]
        with group(tmp_path / "logs") as started:
            harness = [sys.executable, "-m", "harness", *command]
            cache = {"HARNESS_CACHE": str(tmp_path / "cache")}
            start_ranks(started, 2, harness, lambda rank: cache)
            assert_all(started.ended())
    assert_equal_losses(cached.parent / "run", tmp_path / "run")
    assert record(spec)["feature_cache"] == record(cached)["feature_cache"]


def test_a_backbone_that_was_trained_is_not_cached_any_more(
    tiny_backbone: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    phases = [
        {"name": "head", "epochs": 2, "learning_rate": 0.01},
        {"name": "all", "epochs": 1, "learning_rate": 0.001, "unfreeze": "all"},
        {"name": "again", "epochs": 2, "learning_rate": 0.001},
    ]
    changes = {"training.phases": phases}
    spec = write(tmp_path, tiny_backbone, data, **changes)
    said = run(spec, cache)
    assert said.count("feature cache") == 1  # of the first phase alone
    (tmp_path / "plain").mkdir()
    plain = write(
        tmp_path / "plain", tiny_backbone, data, **changes, **{"training.feature_cache": "off"}
    )
    run(plain, cache)
    assert_equal_losses(tmp_path / "run", tmp_path / "plain" / "run", relative=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data.augment": {"flip": "horizontal"}}, "augmentation changes them anew in every epoch"),
        ({"training.phases": [{"name": "one", "epochs": 1}]}, "they are read once"),
    ],
)
def test_where_it_is_not_used_that_is_said(
    changes: dict[str, Any],
    reason: str,
    tiny_backbone: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    spec = write(tmp_path, tiny_backbone, data, **changes)
    said = run(spec, tmp_path / "cache")
    assert said.count(reason) == 1
    assert "train" not in record(spec)["feature_cache"]


def test_no_room_is_said_and_asked_for_an_error(
    tiny_backbone: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE_GB", "0.000001")
    spec = write(tmp_path, tiny_backbone, data)
    said = run(spec, tmp_path / "cache")
    assert "HARNESS_CACHE_GB allows 1.0 kB" in said
    assert record(spec)["feature_cache"] == {}
    (tmp_path / "asked").mkdir()
    asked = write(tmp_path / "asked", tiny_backbone, data, **{"training.feature_cache": {}})
    said = run(asked, tmp_path / "cache", code=2)
    assert "cannot be cached" in said and "HARNESS_CACHE_GB" in said


def test_corrupt_pictures_count_as_they_do_without(
    tiny_backbone: Path, tmp_path: Path, write_pictures: Callable[..., Path]
) -> None:
    own = tmp_path / "own"
    write_pictures(own / "train", CLASSES, 13, 16)
    write_pictures(own / "test", CLASSES, 5, 16)
    (own / "train" / "red" / "003.png").write_bytes(b"no picture")
    found = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        changes = {"data.corrupt": {"policy": "skip", "limit": "10%"}}
        spec = write(tmp_path / name, tiny_backbone, own, **changes)
        run(spec, tmp_path / "cache")
        assert record(spec)["counts"]["corrupt"] == 1
        found.append(lines(spec.parent / "run" / "corrupt.jsonl"))
    assert found[0] == found[1]
    assert [line["name"] for line in found[0]] == ["red/003.png"]
    (tmp_path / "strict").mkdir()
    strict = write(tmp_path / "strict", tiny_backbone, own, **{"data.corrupt": {"policy": "fail"}})
    assert "red/003.png" in run(strict, tmp_path / "cache", code=4)


def test_a_run_whose_features_have_gone_says_that_it_is_not_exact(
    tiny_backbone: Path, data: Path, tmp_path: Path
) -> None:
    changes = {**mischief(tmp_path, at=11, number=9), "training.deterministic": False}
    spec = write(tmp_path, tiny_backbone, data, **changes)
    run(spec, tmp_path / "cache", code=-signal.SIGKILL, alone=True)
    shutil.rmtree(tmp_path / "cache" / "features")
    said = run(spec, tmp_path / "cache")
    reason = "features of the train examples are computed anew"
    assert reason in said
    assert record(spec)["exact"] is False
    assert any(reason in each for each in record(spec)["not_exact_because"])
