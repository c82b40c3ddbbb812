"""One plug-in of every kind, to copy from; jobs/plugins_example.yaml uses them all.

The decorator gives a callable its kind and the name that a spec uses.  What each kind is called
with, and what it has to return, is in docs/plugins.md.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import tensorflow as tf
import tf_keras

from harness.model.draws import Dropout
from harness.model.task import Classification
from harness.plugins import register


@register("source", "class_in_name")
def class_in_name(path, options):
    """Pictures anywhere under ``path`` whose file names begin with their class and ``_``."""
    root = Path(path)
    names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    found = [Path(name).name.split("_")[0] for name in names]
    classes = sorted(set(found))

    def load(name):
        data = tf.io.read_file(tf.strings.join([str(root), "/", name]))
        return tf.io.decode_image(data, channels=3, expand_animations=False)

    return SimpleNamespace(
        names=names,
        labels=[classes.index(one) for one in found],
        classes=classes,
        # Whatever changes when the data changes; a run is not continued on other data.
        digest=str(sorted((name, (root / name).stat().st_size) for name in names)),
        load=load,
    )


@register("backbone", "colour_moments")
def colour_moments(image_size, cells=3):
    """No weights at all: mean and deviation of each colour in ``cells`` x ``cells`` squares."""
    images = tf_keras.Input((image_size, image_size, 3))  # in 0..1, as Hub modules take them
    side = image_size // cells
    mean = tf_keras.layers.AveragePooling2D(side)(images)
    of_squares = tf_keras.layers.AveragePooling2D(side)(images * images)
    variance = tf_keras.layers.ReLU()(of_squares - mean * mean)
    moments = tf_keras.layers.Concatenate()([mean, tf.sqrt(variance + 1e-6)])
    return tf_keras.Model(images, tf_keras.layers.Flatten()(moments))


@register("head", "normalised")
def normalised(features, outputs, draws, width=128, dropout=0.1):
    """Layer normalisation, one hidden layer, and a dropout that a resume repeats exactly."""
    x = tf_keras.layers.LayerNormalization()(features)
    x = tf_keras.layers.Dense(width, activation="relu")(x)
    x = Dropout(dropout, draws, 0)(x)  # the number tells one layer's draws from another's
    return tf_keras.layers.Dense(outputs)(x)


@register("task", "focal")
class Focal(Classification):
    """Focal loss, which gives easy examples less weight (Lin et al., 2017, equation 4)."""

    gamma = 1.0

    def losses(self, labels, logits, training):
        of_labels = tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=1)
        return -((1.0 - tf.exp(of_labels)) ** self.gamma) * of_labels


@register("augmentation", "noise")
def noise(image, seed, deviation=8.0):
    """Gaussian noise, in units of the 0..255 range; the seed makes it repeatable."""
    return image + tf.random.stateless_normal(tf.shape(image), seed, stddev=deviation)


@register("metric", "top_k")
def top_k(labels, probabilities, k=3):
    """1 where the label is among the ``k`` most probable classes."""
    return tf.cast(tf.math.in_top_k(labels, probabilities, k), tf.float32)


@register("callback", "stop_at")
class StopAt(tf_keras.callbacks.Callback):
    """Ends training once ``metric`` has reached ``target``."""

    def __init__(self, metric, target):
        super().__init__()
        self.metric, self.target, self.reached_at = metric, target, None

    def on_epoch_end(self, epoch, logs=None):
        if (logs or {}).get(self.metric, -1.0) >= self.target:
            self.reached_at = epoch
            self.model.stop_training = True

    # With these two, a run that is stopped and continued counts as exact.
    def get_state(self):
        return {"reached_at": self.reached_at}

    def set_state(self, state):
        self.reached_at = state["reached_at"]
