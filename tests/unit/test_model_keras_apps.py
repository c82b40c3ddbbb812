"""Applications of Keras as backbones: names, pixels, weights and normalisations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
import tf_keras  # noqa: E402
from tf_keras.src.utils import data_utils  # noqa: E402

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.errors import DataError  # noqa: E402
from harness.model.keras_apps import (  # noqa: E402
    digest_of_weights,
    load_application,
    with_global_norms,
)
from harness.model.keras_weights import handle_of, published  # noqa: E402
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


def test_weights_that_are_not_in_the_cache_are_not_fetched_by_keras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(DataError, match="the backbone is not in the cache") as caught:
        load_application("MobileNetV3Small", "imagenet", (32,))
    assert "harness stage SPEC --from FILE" in str(caught.value.problems[0].action)


def put(name: str, side: int | None, home: Path, content: bytes) -> Path:
    """A file of weights where Keras keeps it."""
    file = home / "models" / published(name, side).file
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return file


def test_weights_in_the_cache_are_those_that_keras_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file of a size of its own; those of MobileNet have no checksum."""
    made = load_application("MobileNet", "random", (128,))
    made.save_weights(tmp_path / "weights.h5")
    put("MobileNet", 128, tmp_path, (tmp_path / "weights.h5").read_bytes())
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    found = load_application("MobileNet", "imagenet", (128,))
    for one, other in zip(made.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(DataError, match="_224_tf_no_top"):
        load_application("MobileNet", "imagenet", (96, 128))


def test_weights_that_were_changed_are_refused(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    small.save_weights(tmp_path / "weights.h5")
    put("MobileNetV3Small", None, tmp_path, (tmp_path / "weights.h5").read_bytes())
    with pytest.raises(DataError, match="not those that were published"):
        load_application("MobileNetV3Small", "imagenet", (32,))


class Asked(Exception):
    """What Keras asks for."""


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *(("MobileNet", side) for side in (None, 100, 128)),
        ("MobileNetV2", 96),
        ("MobileNetV3Small", None),
        ("VGG16", 224),
    ],
)
def test_the_table_of_weights_is_what_keras_asks_for(
    name: str, side: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(fname: str, origin: str, file_hash: str | None = None, **more: Any) -> None:
        raise Asked(fname, origin, file_hash)

    monkeypatch.setattr(data_utils, "get_file", asked)
    make = getattr(tf_keras.applications, name)
    with pytest.raises(Asked) as caught:
        make(include_top=False, weights="imagenet", input_shape=(side, side, 3))
    found = published(name, side)
    assert caught.value.args == (found.file, found.address, found.checksum)


def test_the_whole_table_stands_in_the_sources_of_keras() -> None:
    folder = Path(data_utils.__file__).parents[1] / "applications"
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    for name in PIXELS:
        found = published(name, None)
        assert handle_of(found.file) == f"keras:{name}"
        assert found.checksum is None or found.checksum in text
    for name in ("NASNetMobile", "NASNetLarge"):  # whose files have another name there
        found = published(name, None)
        assert f'"{found.file}"' in text
        assert f'"{found.address.rpartition("/")[2]}"' in text
    sums = [published(name, None).checksum for name in PIXELS]
    assert len({one for one in sums if one}) == len(PIXELS) - 2


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


def test_at_another_size_variables_have_the_names_and_values_of_the_run() -> None:
    """Also of layers that Keras numbers a process long, as those of InceptionV3: a checkpoint goes
    by names."""
    from harness.model.backbone import Pinned
    from harness.model.loading import load_source
    from harness.spec import Trust

    backbone = {"handle": "keras:InceptionV3", "weights": "random"}
    data = {"train": "/x", "image_size": 80}
    spec = load_spec({"harness_spec": 1, "name": "x", "backbone": backbone, "data": data}).spec
    own, other = (
        load_source(spec, sizes, Pinned(), Trust(), SingleDevice()).layer
        for sizes in ((80,), (96,))
    )
    assert other.input_shape[1] == 96
    assert [v.name for v in own.weights] == [v.name for v in other.weights]
    for one, same in zip(own.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), same.numpy())
