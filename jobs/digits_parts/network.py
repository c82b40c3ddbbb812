"""A small convolutional network with batch normalisation, as the backbone of the job.

There are no pretrained weights of such small pictures: what is transferred is what it learns of
the printed digits.
"""

from __future__ import annotations

import tf_keras

from harness.plugins import register

layers = tf_keras.layers


@register("backbone", "small_network")
def small_network(image_size: int, width: int = 24) -> tf_keras.Model:
    """Pictures in 0..1, [N, S, S, 3], to [N, 4 * width].

    Args:
        image_size: S, height and width in pixels.
        width: channels of the first convolution.
    """
    inputs = x = tf_keras.Input((image_size, image_size, 3))
    for number in range(3):
        x = layers.Conv2D(
            width * 2**number, 3, padding="same", use_bias=False, name=f"conv_{number}"
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm_{number}")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(layers.ReLU(name=f"relu_{number}")(x))
    return tf_keras.Model(inputs, layers.GlobalAveragePooling2D(name="mean")(x))
