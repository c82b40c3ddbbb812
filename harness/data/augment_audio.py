"""Random changes of training recordings, as a pure function of (seed, epoch, example).

The draws of a recording depend on its name, not on where it is read from, nor on rank, thread or
batch.  A plug-in of kind ``augmentation`` is called as ``change(samples, seed, **options) ->
samples`` with float32 [samples] and an int64 [2] seed for TensorFlow's stateless ops; it must be
graph code and return the same shape.

The order is: cut or pad, time shift, noise, SpecAugment, plug-ins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from harness.data.audio import cut_or_pad
from harness.data.augment_plugins import AugmentPlugins
from harness.data.seeds import fold, key_of, seed_pair

if TYPE_CHECKING:
    from harness.spec.models_augment import Augment, SpecAugment
    from harness.spec.models_data import Audio

# By the number of its key each use has draws of its own.  Never renumber: a resumed run must draw
# the same.
_SHIFT, _LEVEL, _NOISE, _TIME, _FREQUENCY = range(1, 6)
_FRAME_S = 0.032
_HOPS = 4
"""Frames that overlap at each sample."""


class AudioAugmenter:
    """Augments recordings by ``options``.

    Args:
        options: ``data.augment`` of the spec.
        seed: the training seed.
        audio: rate and length of the recordings.

    Raises:
        UsageError: a plug-in that is not registered.
    """

    def __init__(self, options: Augment, seed: int, audio: Audio) -> None:
        self._options, self._audio, self._seed = options, audio, seed
        self._plugins = AugmentPlugins(options.plugins)

    @property
    def changes(self) -> bool:
        """False when the options leave every recording as it is."""
        o = self._options
        return any(map(bool, (o.time_shift, o.noise, o.spec_augment, self._plugins)))

    def hidden_randomness(self, size: int | None) -> list[str]:
        """A sentence for every plug-in that draws random numbers which no resume repeats."""
        return self._plugins.hidden_randomness(tf.TensorSpec([self._audio.samples]))

    def __call__(
        self, samples: tf.Tensor, size: int | None, epoch: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """The augmented recording, float32 [samples of ``audio``].

        Args:
            samples: float32 [any], of the right rate.
            size: nothing to recordings.
            epoch: int64 scalar.
            key: int64 scalar, :func:`harness.data.augment.example_key`.
        """
        o, epoch_key = self._options, fold(key_of(self._seed), epoch)

        def seed(use: int) -> tf.Tensor:
            return seed_pair(fold(epoch_key, use), key)

        samples = cut_or_pad(samples, self._audio.samples)
        if o.time_shift:
            draw = _uniform([], seed(_SHIFT))
            samples = shifted(samples, (2.0 * draw - 1.0) * o.time_shift)
        if o.noise:
            level = tf.math.sqrt(tf.reduce_mean(tf.square(samples)))
            level *= o.noise * _uniform([], seed(_LEVEL))
            alg = tf.random.Algorithm.PHILOX
            samples += level * tf.random.stateless_normal(samples.shape, seed(_NOISE), alg=alg)
        if o.spec_augment is not None:
            frame = frame_length(self._audio.rate_hz)
            samples = masked(samples, o.spec_augment, frame, seed(_TIME), seed(_FREQUENCY))
        return self._plugins.apply(samples, epoch_key, key)


def shifted(samples: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """The recording later by ``part`` of its length (earlier where it is negative).

    Args:
        samples: float32 [n].
        part: float32 scalar in [-1, 1].
    """
    length = samples.shape[0]
    by = tf.cast(tf.round(part * length), tf.int32)
    source = tf.range(length) - by
    inside = (source >= 0) & (source < length)
    return tf.where(inside, tf.gather(samples, tf.clip_by_value(source, 0, length - 1)), 0.0)


def frame_length(rate_hz: int) -> int:
    """Samples of a frame of the spectrogram: the largest power of two within 32 ms."""
    return 1 << (int(rate_hz * _FRAME_S).bit_length() - 1)


def masked(
    samples: tf.Tensor,
    options: SpecAugment,
    frame: int,
    time_seed: tf.Tensor,
    frequency_seed: tf.Tensor,
) -> tf.Tensor:
    """The recording with bands of its spectrogram silenced, turned back into samples.

    The paper masks the features that its network takes; here any backbone takes samples, so the
    short-time Fourier transform is masked and inverted.  Where no mask is, nothing changes but for
    rounding.

    Args:
        samples: float32 [n].
        frame: samples of a frame.
    """
    step, length = frame // _HOPS, samples.shape[0]
    # Room around it, so that the first and last samples are in as many frames as the others.
    padded = tf.pad(samples, [[frame, frame + (-length) % step]])
    spectrum = tf.signal.stft(padded, frame, step, frame)
    frames, bins = spectrum.shape
    inner = _mask(length // step, options.time_masks, options.time_part, time_seed)
    # The frames over the room belong to the ends of the recording, which no band has to reach.
    before = (frames - length // step) // 2
    after = frames - length // step - before
    in_time = tf.pad(inner, [[before, after]], constant_values=1.0)
    in_frequency = _mask(bins, options.frequency_masks, options.frequency_part, frequency_seed)
    mask = in_time[:, None] * in_frequency[None, :]
    spectrum *= tf.cast(mask, spectrum.dtype)
    window = tf.signal.inverse_stft_window_fn(step)
    back = tf.signal.inverse_stft(spectrum, frame, step, frame, window_fn=window)
    return tf.ensure_shape(back[frame : frame + length], [length])


def _mask(size: int, count: int, part: float, seed: tf.Tensor) -> tf.Tensor:
    """float32 [size] of ones, with zeros in ``count`` bands.

    Each is as wide as a uniform draw in [0, part] of the size says, and begins where it fits.
    """
    if not count or not part:
        return tf.ones([size])
    draws = _uniform([count, 2], seed)
    width = draws[:, 0] * part * size
    start = draws[:, 1] * (size - width)
    at = tf.range(size, dtype=tf.float32)[None] + 0.5
    covered = (at >= start[:, None]) & (at < (start + width)[:, None])
    return tf.where(tf.reduce_any(covered, 0), 0.0, 1.0)


def _uniform(shape: list[int], seed: tf.Tensor) -> tf.Tensor:
    """float32 in [0, 1)."""
    return tf.random.stateless_uniform(shape, seed, alg=tf.random.Algorithm.PHILOX)
