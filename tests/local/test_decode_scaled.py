"""``data.decode: scaled``: one decoding for training, validation, test, predict and export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import harness
from harness.cli.main import main
from harness.data.content import content_of_spec, least_side
from harness.data.index import folder_index
from harness.data.pipeline import Feed
from harness.spec import load_spec
from tests.local.training_helpers import write_spec

tf = pytest.importorskip("tensorflow")

SIZE = 16
CLASSES = ("dark", "light")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """JPEGs of 160x128 pixels, of two classes, rough enough that a scaled one differs."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(1)
    for split, each in (("train", 12), ("test", 4)):
        for number, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for at in range(each):
                coarse = random.integers(90 * number, 120 + 90 * number, (32, 40, 3), np.uint8)
                picture = Image.fromarray(coarse).resize((160, 128))
                picture.save(folder / split / name / f"{at}.jpg", quality=95)
    return folder


def spec_of(folder: Path, backbone: Path, data: Path, **changes):
    file = write_spec(folder, backbone, data, **{"data.image_size": SIZE, **changes})
    return file, load_spec(file).spec


@pytest.mark.parametrize(
    ("crop", "least"), [(None, 16), ([1.0, 1.0], 19), ([0.5, 1.0], 27), ([0.1, 0.2], 59)]
)
def test_no_crop_has_to_be_enlarged(tmp_path, tiny_backbone, data, crop, least):
    changes = {"data.augment": {"crop_area": crop}, "data.decode": "scaled"}
    _, spec = spec_of(tmp_path, tiny_backbone, data, **changes)
    assert least_side(spec) == least
    smallest = (crop[0] if crop else 4 / 3) * 3 / 4
    assert least * smallest**0.5 >= SIZE
    assert (least - 1) * smallest**0.5 < SIZE


def test_training_and_the_export_decode_alike(tmp_path, tiny_backbone, data, capsys):
    file, spec = spec_of(tmp_path, tiny_backbone, data, **{"data.decode": "scaled"})
    result = harness.run(file, run_dir=tmp_path / "run", quiet=True)
    index = folder_index(data / "test")
    batches = [
        Feed(index, content=content).evaluation(8, SIZE)
        for content in (content_of_spec(spec), None)
    ]
    scaled, full = (next(iter(batch.as_numpy_iterator())) for batch in batches)
    assert (scaled["image"] != full["image"]).any()
    files = tf.stack([tf.io.read_file(str(data / "test" / name)) for name in index.names])

    assert main(["export", str(result.path), "--to", str(tmp_path / "model"), "--json"]) == 0
    capsys.readouterr()
    served = tf.saved_model.load(str(tmp_path / "model"))
    of_files = served.signatures["serving_default"](files)["probabilities"].numpy()
    of_pixels, of_others = (
        served.signatures["images"](tf.constant(one["image"]))["probabilities"].numpy()
        for one in (scaled, full)
    )
    np.testing.assert_array_equal(of_files, of_pixels)
    assert np.abs(of_files - of_others).max() > 0

    names = [str(data / "test" / name) for name in index.names]
    assert main(["predict", str(result.path), *names, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    for one, probabilities in zip(said, of_files, strict=True):
        np.testing.assert_allclose(one["probability"], probabilities.max(), atol=1e-5)
