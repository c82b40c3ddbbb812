"""From the bytes of a recording to samples of one channel and one rate, in graph code.

libsndfile (``soundfile``) reads WAV of all kinds and FLAC, where TensorFlow reads 16-bit WAV only;
libsoxr (``soxr``) resamples with a filter as good as there is (its quality HQ).  Both are C, behind
a ``tf.numpy_function``; they are imported when a recording is read, not before.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from harness.errors import EnvironmentNotAble

_LIBRARIES = ("soundfile", "soxr")


def check_installed() -> None:
    """Holds that what reads recordings is there.

    Raises:
        EnvironmentNotAble: it is not.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentNotAble(
            "recordings need libraries that are not installed",
            got=f"no {', '.join(missing)}",
            allowed="the [audio] extra",
            action="pip install 'harness[audio]'",
            path="task",
        )


def read_audio(contents: bytes, rate_hz: int) -> np.ndarray:
    """float32 [samples]: the mean of all channels, resampled to ``rate_hz``.

    Raises:
        ValueError: it is no recording, a damaged one, an empty one, or one with a sample that is
            not finite; says which.
    """
    import soundfile
    import soxr

    try:
        samples, rate = soundfile.read(io.BytesIO(contents), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        kinds = {b"RIFF": "WAV", b"RF64": "WAV", b"fLaC": "FLAC"}
        kind = kinds.get(contents[:4])
        what = f"{kind} that cannot be read" if kind else "not a recording (WAV or FLAC)"
        raise ValueError(f"{what}: {error}" if kind else what) from None
    if not len(samples):
        raise ValueError("a recording without a sample")
    if not np.isfinite(samples).all():
        raise ValueError("a recording with samples that are no numbers")
    mono = samples.mean(axis=1)
    return mono if rate == rate_hz else soxr.resample(mono, rate, rate_hz)


def decoder(rate_hz: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """As :func:`read_audio`, for graphs: from a string scalar, the bytes of a file, to its samples.

    Raises:
        tf.errors.InvalidArgumentError: (when run) they are no whole recording.
    """

    def read(raw: bytes) -> np.ndarray:
        return read_audio(raw, rate_hz)

    # A tf.function also where it is called by itself: what Python raises is an error of
    # TensorFlow's then, as it is in a pipeline.
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def decode(contents: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(read, [contents], tf.float32), [None])

    return decode


def cut_or_pad(samples: tf.Tensor, length: int) -> tf.Tensor:
    """float32 [length]: cut at the end, or followed by silence."""
    part = samples[:length]
    return tf.ensure_shape(tf.pad(part, [[0, length - tf.shape(part)[0]]]), [length])


def audio_fault(file: Path) -> str:
    """Why a recording cannot be read."""
    try:
        return audio_fault_in(file.read_bytes())
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def audio_fault_in(contents: bytes) -> str:
    """Why the bytes of a file cannot be read as a recording."""
    if not contents:
        return "empty"
    try:
        read_audio(contents, rate_hz=16_000)
    except ValueError as error:
        return str(error)
    return "could not be read before, can be now"
