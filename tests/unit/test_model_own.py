"""Models that users have saved: told apart before they are loaded, and cut at a layer."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras

from harness.errors import DataError
from harness.model.backbone import Called, load_located, located
from harness.model.own_model import check_form, digest_of_own, load_own, own_path


@pytest.fixture(scope="module")
def model() -> tf_keras.Model:
    tf_keras.utils.set_random_seed(1)
    return tf_keras.Sequential(
        [
            tf_keras.Input((4,)),
            tf_keras.layers.Dense(6, "relu", name="features"),
            tf_keras.layers.Dense(3, "softmax", name="classes"),
        ]
    )


@pytest.fixture(scope="module")
def saved(model: tf_keras.Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model in each of its forms."""
    folder = tmp_path_factory.mktemp("own")
    found = {form: folder / f"model{form}" for form in (".h5", ".keras", "")}
    for path in found.values():
        model.save(str(path))
    model.save_weights(str(folder / "weights.h5"))
    return {**found, "weights": folder / "weights.h5"}


@pytest.mark.parametrize("form", [".h5", ".keras", ""])
@pytest.mark.parametrize("layer", [None, "features"])
def test_a_model_gives_what_it_gave(
    form: str, layer: str | None, saved: dict[str, Path], model: tf_keras.Model
) -> None:
    handle = f"model:{saved[form]}"
    path, digest = located(handle)
    found = load_located(path, handle, digest, Called(None, layer))
    examples = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    wanted = model(examples) if layer is None else model.get_layer(layer)(examples)
    np.testing.assert_allclose(found.layer(examples), wanted, rtol=1e-6)
    assert not found.layer.trainable_weights
    assert len(found.trainable()) == (4 if layer is None else 2)
    assert found.digest == digest_of_own(saved[form])


def test_a_digest_is_of_the_content(saved: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "other.h5"
    copy.write_bytes(saved[".h5"].read_bytes())
    assert digest_of_own(copy) == digest_of_own(saved[".h5"])
    with h5py.File(copy, "r+") as file:
        file.attrs["mark"] = "1"
    assert digest_of_own(copy) != digest_of_own(saved[".h5"])


def refused(path: Path, layer: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load_own(path, layer)
    (problem,) = caught.value.problems
    assert problem.allowed and problem.action
    return str(problem)


def test_what_is_no_model_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "no.h5")
    assert "holds no model of Keras" in refused(saved["weights"])
    (tmp_path / "text.h5").write_text("text")
    assert "holds no model of Keras" in refused(tmp_path / "text.h5")
    (tmp_path / "folder").mkdir()
    assert "use hub:FOLDER" in refused(tmp_path / "folder")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a", "b")
    assert "holds no model of Keras" in refused(tmp_path / "other.zip")


def test_a_layer_that_is_not_there_is_refused(saved: dict[str, Path]) -> None:
    said = refused(saved[".h5"], "feature")
    assert "features, classes" in said
    assert "backbone.output" in said


def test_a_newer_keras_is_told_how_to_export(saved: dict[str, Path], tmp_path: Path) -> None:
    newer = tmp_path / "newer.keras"
    with zipfile.ZipFile(newer, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.5.0"}))
    h5 = tmp_path / "newer.h5"
    h5.write_bytes(saved[".h5"].read_bytes())
    with h5py.File(h5, "r+") as file:
        file.attrs["keras_version"] = "3.5.0"
    for path in (newer, h5):
        said = refused(path)
        assert "Keras 3.5.0" in said
        assert "model.export('FOLDER')" in said


def test_layers_of_ones_own_are_refused_in_words(tmp_path: Path) -> None:
    class Own(tf_keras.layers.Layer):
        def call(self, inputs):
            return inputs

    model = tf_keras.Sequential([tf_keras.Input((4,)), Own()])
    model.save(str(tmp_path / "own.h5"))
    check_form(tmp_path / "own.h5")
    assert "plug-in backbone" in refused(tmp_path / "own.h5")


def test_other_handles_are_none_of_these() -> None:
    assert own_path("hub:/a") is None
    assert own_path("model:/a/b.h5") == Path("/a/b.h5")
