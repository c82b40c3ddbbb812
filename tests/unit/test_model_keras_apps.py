"""Applications of Keras as backbones: names, pixels, weights and normalisations."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
import tf_keras  # noqa: E402

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.errors import DataError  # noqa: E402
from harness.model.keras_apps import (  # noqa: E402
    digest_of_weights,
    load_application,
    with_global_norms,
)
from harness.model.norm import SyncBatchNorm  # noqa: E402
from harness.model.pixels import Pixels  # noqa: E402
from harness.spec import load_spec  # noqa: E402
from harness.spec.keras_names import PIXELS  # noqa: E402
from tests.unit.spec_helpers import changed, problems  # noqa: E402


def test_every_application_of_keras_has_a_name() -> None:
    there = {
        name
        for name, made in vars(tf_keras.applications).items()
        if callable(made) and name[0].isupper()
    }
    assert there == set(PIXELS)


@pytest.mark.parametrize("name", sorted(PIXELS))
def test_pixels_are_what_its_family_prepares(name: str) -> None:
    """Held against ``preprocess_input`` of the module that makes it."""
    family = sys.modules[getattr(tf_keras.applications, name).__module__]
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 3, 3)).astype(np.uint8)
    wanted = family.preprocess_input(pixels.astype(np.float32).copy())
    found = Pixels(PIXELS[name])(tf.constant(pixels)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.fixture(scope="module")
def small() -> Any:
    tf_keras.utils.set_random_seed(3)
    return load_application("MobileNetV3Small", "random", (32,))


def test_it_gives_its_averaged_feature_map(small: Any) -> None:
    assert small.output_shape == (None, 576)
    assert load_application("MobileNetV3Small", "random", (32, 64)).input_shape[1:3] == (None, None)


def test_weights_of_a_file_are_those_that_were_saved(small: Any, tmp_path: Path) -> None:
    file = tmp_path / "own.weights.h5"
    small.save_weights(str(file))
    again = load_application("MobileNetV3Small", str(file), (64,))
    digest = digest_of_weights("MobileNetV3Small", small)
    assert digest_of_weights("MobileNetV3Small", again) == digest
    for one, other in zip(small.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    again.weights[0].assign_add(tf.ones_like(again.weights[0]) * 1e-3)
    assert digest_of_weights("MobileNetV3Small", again) != digest


@pytest.mark.parametrize(
    ("name", "weights", "path", "words"),
    [
        ("MobileNetV3Small", "/nowhere/x.h5", "backbone.weights", "no such file"),
        ("MobileNetV2", "{file}", "backbone.weights", "do not fit MobileNetV2"),
    ],
)
def test_weights_that_are_not_its_own(
    small: Any, tmp_path: Path, name: str, weights: str, path: str, words: str
) -> None:
    file = tmp_path / "own.weights.h5"
    small.save_weights(str(file))
    with pytest.raises(DataError, match=words) as caught:
        load_application(name, weights.format(file=file), (32,))
    assert caught.value.problems[0].path == path


def test_too_small_pictures_are_said(small: Any) -> None:
    with pytest.raises(DataError, match="too small for VGG16") as caught:
        load_application("VGG16", "random", (16,))
    assert caught.value.problems[0].path == "data.image_size"


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the cache, and nobody answers: a closed port of this machine is the proxy."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # which keeps the proxies of its time
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(DataError, match="ImageNet weights of MobileNetV3Small") as caught:
        load_application("MobileNetV3Small", "imagenet", (32,))
    assert "where there is internet" in str(caught.value.problems[0].action)


@pytest.mark.parametrize("training", [False, True])
def test_global_norms_are_those_of_keras_on_one_replica(training: bool) -> None:
    """Moving averages too, but for the factor n / (n - 1) that fused kernels put on variances."""
    tf_keras.utils.set_random_seed(4)
    model = load_application("InceptionV3", "random", (75,))  # norms without scales
    ours = with_global_norms(model, SingleDevice())
    norms = [layer for layer in ours.layers if isinstance(layer, SyncBatchNorm)]
    assert len(norms) == 94
    assert not any(isinstance(x, tf_keras.layers.BatchNormalization) for x in ours.layers)
    assert [w.shape for w in ours.weights] == [w.shape for w in model.weights]
    pictures = np.random.default_rng(2).normal(0, 1, (4, 75, 75, 3)).astype(np.float32)
    wanted = model(pictures, training=training).numpy()
    found = ours(pictures, training=training).numpy()
    # 94 of them in a row, and those of a feature map of one pixel have four values each.
    assert np.linalg.norm(found - wanted) < 5e-3 * np.linalg.norm(wanted)
    for mine, theirs in zip(
        norms[:3], [x for x in model.layers if "batch_norm" in x.name], strict=False
    ):
        np.testing.assert_allclose(mine.moving_mean, theirs.moving_mean, rtol=1e-3, atol=1e-5)


# As the spec has them.


def test_a_misspelt_name_is_told_its_neighbours() -> None:
    (problem,) = problems(changed(backbone={"handle": "keras:MobilNetV2"}))
    assert problem.path == "backbone.handle"
    assert "MobileNetV2" in str(problem.allowed)


@pytest.mark.parametrize(
    ("backbone", "path"),
    [
        ({"handle": "hub:/x", "weights": "random"}, "backbone.weights"),
        ({"handle": "keras:VGG16", "output": "x"}, "backbone.output"),
        ({"handle": "keras:VGG16", "weights": "random", "digest": "0" * 64}, "backbone.digest"),
    ],
)
def test_what_does_not_go_together(backbone: dict[str, Any], path: str) -> None:
    assert [problem.path for problem in problems(changed(backbone=backbone))] == [path]


def test_weights_are_a_word_or_a_path(tmp_path: Path) -> None:
    def weights(text: str) -> str | None:
        job = tmp_path / "job.yaml"
        job.write_text(
            "harness_spec: 1\nname: n\ndata: {train: t}\n"
            f"backbone: {{handle: 'keras:VGG16', weights: '{text}'}}\n"
        )
        return load_spec(job).spec.backbone.weights

    assert weights("random") == "random"
    assert weights("./own.h5") == str(tmp_path / "own.h5")
