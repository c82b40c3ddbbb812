"""Pixels as a backbone wants them, against Keras' own preprocessing."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")

from tf_keras.applications.imagenet_utils import preprocess_input  # noqa: E402

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.errors import SpecError  # noqa: E402
from harness.model.assemble import assemble  # noqa: E402
from harness.model.backbone import Backbone  # noqa: E402
from harness.model.task import make_task  # noqa: E402
from harness.spec import load_spec  # noqa: E402

PIXELS = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), np.uint8)
WANTED = {
    None: PIXELS / np.float32(255),
    "unit": PIXELS / np.float32(255),
    "bytes": PIXELS.astype(np.float32),
    "symmetric": preprocess_input(PIXELS.astype(np.float32), mode="tf"),
    "imagenet": preprocess_input(PIXELS.astype(np.float32), mode="torch"),
    "caffe": preprocess_input(PIXELS.astype(np.float32), mode="caffe"),
}


def spec_of(**changes):
    spec = {
        "harness_spec": 1,
        "name": "pixels",
        "backbone": {"handle": "plugin:x"},
        "data": {"train": ".", "image_size": 8},
    }
    return load_spec(spec | changes).spec


@pytest.mark.parametrize("kind", WANTED)
def test_the_backbone_gets_them_as_the_spec_says(kind):
    spec = spec_of(backbone={"handle": "plugin:x", "pixels": kind})
    layer = tf_keras.layers.Flatten()
    task = make_task("image_classification", ("a", "b"), label_smoothing=0.0, metrics={})
    model = assemble(spec, Backbone("x", layer, None, None), task, SingleDevice(), (8,))
    assert model.keras.input.dtype == tf.uint8
    flat = tf_keras.Model(model.keras.input, model.pretrained.output)
    np.testing.assert_allclose(
        flat(PIXELS).numpy().reshape(PIXELS.shape), WANTED[kind], rtol=1e-6, atol=1e-5
    )


def test_other_kinds_and_other_media_are_refused():
    with pytest.raises(SpecError, match=r"backbone\.pixels"):
        spec_of(backbone={"handle": "plugin:x", "pixels": "tf"})
    text = {"train": "texts.csv", "image_size": None, "columns": {"text": "t", "label": "l"}}
    with pytest.raises(SpecError, match=r"backbone\.pixels: is of pictures"):
        spec_of(
            task="text_classification",
            backbone={"handle": "plugin:x", "pixels": "unit"},
            data=text,
        )
