"""A front end for recordings, saved as a Hub module: samples to the shape of a log-mel spectrogram.

Nothing in it is learned.  Audio networks with pretrained weights come from model hubs only, which
a machine without internet does not reach, so this stands where such a module would: the usual
features of speech recognition before networks learned their own (Davis and Mermelstein, 1980, have
the mel scale), averaged over pieces of the spoken part.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

RATE_HZ = 16_000
FRAME, STEP = 512, 160
BANDS, LOWEST_HZ, HIGHEST_HZ = 40, 60.0, 7_600.0
PIECES = 12
FLOOR_DB = 60.0
"""What is so much quieter than the loudest moment is silence."""


class FrontEnd(tf.Module):
    """Samples, float32 [b, n] of 16 kHz in -1..1, to features, float32 [b, 12 * 40].

    The spoken part, from the first to the last loud frame, is cut into twelve pieces of equal
    length; each gives the mean of its frames in forty bands, in tens of decibels from the mean.
    """

    def __init__(self) -> None:
        super().__init__(name="logmel")
        bins = FRAME // 2 + 1
        self.bands = tf.Variable(
            tf.signal.linear_to_mel_weight_matrix(BANDS, bins, RATE_HZ, LOWEST_HZ, HIGHEST_HZ),
            trainable=False,
            name="bands",
        )

    def __call__(self, samples: tf.Tensor) -> tf.Tensor:
        power = tf.square(tf.abs(tf.signal.stft(samples, FRAME, STEP, pad_end=True)))
        mel = tf.einsum("btf,fm->btm", power, self.bands)
        level = 10.0 * tf.math.log(mel + 1e-10) / tf.math.log(10.0)
        loudness = tf.reduce_max(level, 2)
        loud = loudness > tf.reduce_max(loudness, 1, keepdims=True) - FLOOR_DB / 2
        level = tf.maximum(level, tf.reduce_max(level, [1, 2], keepdims=True) - FLOOR_DB)
        place = self._places(loud)
        share = place / tf.maximum(tf.reduce_sum(place, 2, keepdims=True), 1e-6)
        pieces = tf.einsum("bpt,btm->bpm", share, level)
        pieces -= tf.reduce_mean(pieces, [1, 2], keepdims=True)
        return tf.reshape(pieces / 10.0, [-1, PIECES * BANDS])

    def _places(self, loud: tf.Tensor) -> tf.Tensor:
        """float32 [b, pieces, t]: how much of each frame belongs to each piece."""
        frames = tf.range(tf.shape(loud)[1], dtype=tf.float32)
        first = tf.reduce_min(tf.where(loud, frames, 1e9), 1)
        last = tf.reduce_max(tf.where(loud, frames, -1.0), 1) + 1.0
        width = (last - first) / PIECES
        starts = first[:, None] + width[:, None] * tf.range(PIECES, dtype=tf.float32)
        ends = starts + width[:, None]
        low = tf.maximum(frames, starts[:, :, None])
        high = tf.minimum(frames + 1.0, ends[:, :, None])
        return tf.maximum(high - low, 0.0)


def save_as_hub_module(front_end: FrontEnd, folder: Path) -> None:
    """Writes the reusable SavedModel that ``hub.KerasLayer`` loads; it has nothing to train."""
    samples = tf.TensorSpec([None, None], tf.float32, name="inputs")

    @tf.function(input_signature=[samples])
    def call(inputs: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(front_end(inputs), [None, PIECES * BANDS])

    module = tf.train.Checkpoint()
    module.__call__ = call
    module.variables = list(front_end.variables)
    module.trainable_variables = []
    module.regularization_losses = []
    tf.saved_model.save(module, str(folder))
