"""Runs that go on with the backbone of an earlier run: ``backbone.handle: run:DIR``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.main import main
from harness.runs.paths import RunPaths
from harness.spec import Trust
from harness.worker.load import LoadedRun, load_run
from tests.local.training_helpers import CLASSES, final_tensors, record, write_spec
from tests.local.training_helpers import run_here as run

ALL = [
    {"name": "head", "epochs": 1, "learning_rate": 0.01},
    {"name": "all", "epochs": 1, "learning_rate": 0.01, "unfreeze": "all"},
]
HEAD = [{"name": "head", "epochs": 1, "learning_rate": 0.01}]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 9, 16)
    write_pictures(folder / "test", CLASSES, 3, 16)
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, data: Path) -> Path:
    """A run that has trained all of its backbone, with averages of its weights."""
    folder = tmp_path_factory.mktemp("first")
    changes = {"training.phases": ALL, "training.ema": {"decay": 0.5}, "head.batch_norm": True}
    changes["backbone.pixels"] = "symmetric"
    spec = write_spec(folder, tiny_backbone, data, **changes)
    run(spec, folder / "cache")
    return folder / "run"


def write(folder: Path, earlier: Path, data: Path, **changes: Any) -> Path:
    """A spec in ``folder`` that takes the backbone of the run ``earlier``."""
    folder.mkdir(exist_ok=True)
    chosen = {"backbone.handle": f"run:{earlier}", "training.phases": HEAD, "data.augment": {}}
    return write_spec(folder, earlier, data, **chosen | changes)


def opened(folder: Path) -> LoadedRun:
    return load_run(RunPaths(folder), Trust())


def pictures() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), np.uint8)


def test_its_features_are_those_that_the_earlier_run_has_learned(
    first: Path, tiny_backbone: Path, data: Path, tmp_path: Path
) -> None:
    """Those of its best and averaged weights, to the bit, which are not the module's own."""
    cached = {"training.feature_cache": {"copies": 1}}
    spec = write(tmp_path / "a", first, data, **cached)
    said = run(spec, tmp_path / "cache")
    assert "features of the train and validation examples computed" in said
    earlier, later = opened(first), opened(spec.parent / "run")
    features = later.model.features(pictures()).numpy()
    np.testing.assert_array_equal(features, earlier.model.features(pictures()).numpy())
    module = write(tmp_path / "b", first, data, **{"backbone.handle": f"hub:{tiny_backbone}"})
    run(module, tmp_path / "cache")
    own = opened(module.parent / "run").model.features(pictures()).numpy()
    assert np.abs(own - features).max() > 1e-3
    facts = record(spec)
    assert facts["backbone"] == f"run:{first}"
    assert facts["backbone_digest"] not in (None, record(module)["backbone_digest"])


def test_it_is_cut_in_its_head_and_trained_on(first: Path, data: Path, tmp_path: Path) -> None:
    """Up to the layer named, with that layer's weights, which a phase may train too."""
    changes = {"backbone.output": "head_activation_0", "training.phases": ALL, "head.hidden": [8]}
    spec = write(tmp_path / "cut", first, data, **changes)
    run(spec, tmp_path / "cache")
    earlier = opened(first).model.keras
    layer = earlier.get_layer("head_activation_0").output
    wanted = type(earlier)(earlier.inputs, layer)(pictures(), training=False).numpy()
    frozen = write(tmp_path / "frozen", first, data, **{"backbone.output": "head_activation_0"})
    run(frozen, tmp_path / "cache")
    found = opened(frozen.parent / "run").model.features(pictures()).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    head, everything = record(spec)["trained"]
    # The convolution's two, the first head's dense layer and the two of its norm.
    assert everything["variables"] == head["variables"] + 5
    assert main(["evaluate", str(spec.parent / "run")]) == 0
    out = tmp_path / "export"
    assert main(["export", str(spec.parent / "run"), "--to", str(out)]) == 0


def test_a_run_of_a_run(first: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    """Its backbone is that of the second, whatever the first has made since."""
    second = write(tmp_path / "two", first, data, **{"training.phases": ALL})
    run(second, tmp_path / "cache")
    third = write(tmp_path / "three", second.parent / "run", data)
    run(third, tmp_path / "cache")
    features = [opened(each.parent / "run").model.features(pictures()) for each in (second, third)]
    np.testing.assert_array_equal(features[0].numpy(), features[1].numpy())
    capsys.readouterr()
    assert main(["inspect", f"run:{second.parent / 'run'}", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["digest"], facts["pixels"]) == (record(third)["backbone_digest"], "symmetric")


def test_what_changes_under_a_run_is_seen(first: Path, data: Path, tmp_path: Path) -> None:
    """The earlier run goes on and has other weights: the later one is not continued on them."""
    own = tmp_path / "earlier"
    shutil.copytree(first, own)
    spec = write(tmp_path / "later", own, data)
    run(spec, tmp_path / "cache")
    longer = tmp_path / "earlier.yaml"
    text = (first.parent / "spec.yaml").read_text()
    longer.write_text(text)
    more = ["-o", "training.phases.1.epochs=3"]
    assert main(["run", str(longer), "--run-dir", str(own), *more]) == 0
    said = run(spec, tmp_path / "cache", "-o", "training.phases.0.epochs=2", code=4)
    assert "is not the one that the run pins" in said
    shutil.rmtree(own)
    said = run(spec, tmp_path / "cache", "-o", "training.phases.0.epochs=2", code=4)
    assert "backbone.handle: there is no run" in said


def test_the_norms_of_an_application_of_keras_may_learn(data: Path, tmp_path: Path) -> None:
    """By the global batch, though the earlier run has left them alone."""
    keras = {"backbone.handle": "keras:MobileNetV3Small", "backbone.weights": "random"}
    big = {"data.image_size": 32, "training.batch_size": 16}
    spec = write(tmp_path / "keras", tmp_path, data, **keras, **big)
    run(spec, tmp_path / "cache")
    learns = [ALL[1] | {"backbone_mode": "training"}]
    later = write(tmp_path / "on", spec.parent / "run", data, **big, **{"training.phases": learns})
    run(later, tmp_path / "cache")
    one, two = (final_tensors(each.parent / "run") for each in (spec, later))
    means = [name for name in one if name.startswith("model/") and "moving_mean" in name]
    assert len(means) > 10
    for name in means:
        assert np.abs(one[name] - two[name]).max() > 0, name


BAD = {
    "no such folder": ("run:{tmp}/nowhere", {}, 4, "there is no run"),
    "no run": ("run:{tmp}", {}, 4, "there is no run"),
    "not begun": ("run:{tmp}/new", {}, 4, "the run has not begun to train"),
    "nothing saved": ("run:{tmp}/unsaved", {}, 4, "the run has no checkpoint yet"),
    "no such layer": ("run:{first}", {"output": "conv"}, 2, "has no layer of this name"),
    "a signature": ("run:{first}", {"output": "x", "signature": "y"}, 2, "only a SavedModel has"),
}


@pytest.mark.parametrize(("handle", "changes", "code", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_taken_is_said_before_training(
    handle: str,
    changes: dict[str, Any],
    code: int,
    words: str,
    first: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    for name, left_out in (("new", "run.json"), ("unsaved", "checkpoints")):
        shutil.copytree(first, tmp_path / name, ignore=shutil.ignore_patterns(left_out))
    chosen = {f"backbone.{name}": value for name, value in changes.items()}
    chosen["backbone.handle"] = handle.format(tmp=tmp_path, first=first)
    spec = write(tmp_path / "spec", first, data, **chosen)
    assert words in run(spec, tmp_path / "cache", code=code)
    # Which layers there are is seen once the backbone is loaded, all else by `validate` too.
    seen = {"there is no run": 2 if "nowhere" in handle else 4, "has no layer of this name": 0}
    assert main(["validate", str(spec)]) == seen.get(words, code)


def test_how_the_earlier_run_was_put_together_is_in_the_digest(data: Path, tmp_path: Path) -> None:
    """With equal weights too: features of one are not taken for those of the other."""
    from harness.distribute.single import SingleDevice
    from harness.worker.earlier import backbone_of_run

    keras = {"backbone.handle": "keras:MobileNetV3Small", "backbone.weights": "random"}
    spec = write(tmp_path / "a", tmp_path, data, **keras, **{"data.image_size": 32})
    run(spec, tmp_path / "cache")
    other = tmp_path / "b"
    shutil.copytree(spec.parent / "run", other)
    kept = (other / "spec.yaml").read_text()
    assert "pooling: null" in kept
    (other / "spec.yaml").write_text(kept.replace("pooling: null", "pooling: max"))
    found = [
        backbone_of_run(RunPaths(folder), None, (32,), Trust(), SingleDevice(), lambda text: None)
        for folder in (spec.parent / "run", other)
    ]
    assert found[0].digest != found[1].digest
    assert [v.name for v in found[0].layer.weights] == [v.name for v in found[1].layer.weights]
