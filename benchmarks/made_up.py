"""Plug-ins for the runs of benches that need neither pictures nor a download: pictures of noise,
and an application of Keras with random weights."""

from __future__ import annotations

import numpy as np
import tf_keras

from harness.data.arrays import ArraySource
from harness.plugins import register


@register("source", "noise")
def noise(path: str, options: dict) -> ArraySource:
    """``count`` pictures of ``side`` pixels in three classes."""
    random = np.random.default_rng(0)
    side, count = options["side"], options["count"]
    pictures = random.integers(0, 256, (count, side, side, 3), np.uint8)
    return ArraySource(pictures, random.integers(0, 3, count), classes=["a", "b", "c"])


@register("backbone", "application")
def application(image_size: int, name: str) -> tf_keras.Model:
    """The application ``name`` without its top."""
    made = getattr(tf_keras.applications, name)
    shape = (image_size, image_size, 3)
    return made(input_shape=shape, include_top=False, weights=None, pooling="avg")
