"""MobileNetV2 of Keras' applications with the weights of the quickstart, for both interfaces.

Keras' own weights are not in a package registry, torchvision's are.  The two networks differ in
three things.  Keras adds another number to variances, which the scales make up for exactly.  Its
pictures are normalised otherwise, which ``backbone.pixels: imagenet`` says.  And its convolutions
of stride 2 pad below and to the right only: there the grid on which features are taken is half a
step beside the one that the weights were trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tf_keras
from quickstart_parts import mobilenet

TORCH_EPSILON = 1e-5
"""What torch adds to a variance before it takes the root."""


def build(named: dict[str, np.ndarray]) -> tf_keras.Model:
    """``keras.applications.MobileNetV2`` without its top, of any size of picture from 32 up.

    Args:
        named: torchvision's weights.
    """
    model = tf_keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(None, None, 3), pooling="avg"
    )
    mobilenet.set_torch_weights(model, named)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            gamma = gamma * np.sqrt((variance + layer.epsilon) / (variance + TORCH_EPSILON))
            layer.set_weights([gamma, beta, mean, variance])
    return model


def save_for_hub(model: tf_keras.Model, folder: Path) -> None:
    """Saves it as a Hub module, which takes pictures in 0..1 as modules of TensorFlow Hub do."""
    pictures = tf_keras.Input((None, None, 3), name="pictures")
    variance = [d * d for d in mobilenet.DEVIATION]
    normalise = tf_keras.layers.Normalization(mean=mobilenet.MEAN, variance=variance)
    whole = tf_keras.Model(pictures, model(normalise(pictures)))
    mobilenet.save_as_hub_module(whole, folder)
