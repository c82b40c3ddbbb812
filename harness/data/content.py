"""What an example is made of, from the bytes of its file to what the model takes.

One object for each kind of examples; everything around it (order, lanes, masks, corrupt examples)
is the same for all.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import tensorflow as tf

from harness.data.audio import audio_fault, audio_fault_in, check_installed, cut_or_pad, decoder
from harness.data.augment import Augmenter, smallest_side
from harness.data.augment_audio import AudioAugmenter
from harness.data.augment_text import TextAugmenter
from harness.data.corrupt import probe, probe_content
from harness.data.decode import decode, prepared
from harness.data.media import AUDIO, IMAGE, TEXT, Medium
from harness.data.text import decode_text, text_fault

if TYPE_CHECKING:
    from harness.spec import Spec
    from harness.spec.models_augment import Augment
    from harness.spec.models_data import Audio


class Changes(Protocol):
    """What augmentation does to training examples, see :class:`harness.data.augment.Augmenter`."""

    @property
    def changes(self) -> bool:
        """False when the options leave every example as it is."""

    def hidden_randomness(self, size: int | None) -> list[str]:
        """A sentence for every plug-in that draws random numbers which no resume repeats."""

    def __call__(
        self, example: tf.Tensor, size: int | None, epoch: tf.Tensor, key: tf.Tensor, /
    ) -> tf.Tensor:
        """The changed example, as the model takes it."""


class Content(Protocol):
    """A kind of examples.  ``size`` is the height and width of pictures, None for all else."""

    medium: Medium
    """Its name is also the key of the examples in a batch."""
    refusal: str
    """What is said of a file that cannot be decoded, where nobody looks into it."""
    decoded: tf.TensorSpec
    """What :meth:`decode` gives."""

    def element(self, size: int | None) -> tf.TensorSpec:
        """One example as the model takes it, by the name of the model's input."""

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        """Graph code from the bytes of a file to an example; fails where it is corrupt."""

    def prepare(self, example: tf.Tensor, size: int | None) -> tf.Tensor:
        """A decoded example as the model takes it, without augmentation."""

    def fault(self, file: Path) -> str:
        """Why a file cannot be decoded."""

    def fault_in(self, contents: bytes) -> str:
        """Why the bytes of an example cannot be decoded."""

    def augmenter(self, options: Augment, seed: int) -> Changes:
        """Changes training examples as ``data.augment`` says."""


class Images:
    """Pictures: uint8 [S, S, 3].

    Args:
        least: see :func:`harness.data.decode.decode`.
    """

    medium = IMAGE
    refusal = "is no JPEG, PNG, GIF, BMP or WebP picture, or a damaged one"
    decoded = tf.TensorSpec([None, None, 3], tf.uint8)

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def element(self, size: int | None) -> tf.TensorSpec:
        return tf.TensorSpec([size, size, 3], tf.uint8, "images")

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        return decode(contents, self._least)

    def prepare(self, example: tf.Tensor, size: int | None) -> tf.Tensor:
        assert size is not None, "held by the spec"
        return prepared(example, size)

    def fault(self, file: Path) -> str:
        return probe(file)

    def fault_in(self, contents: bytes) -> str:
        return probe_content(contents)

    def augmenter(self, options: Augment, seed: int) -> Changes:
        return Augmenter(options, seed)


class Texts:
    """Texts: string scalars, UTF-8, without the space around them."""

    medium = TEXT
    refusal = "is no UTF-8 text, or an empty one"
    decoded = tf.TensorSpec([], tf.string)

    def element(self, size: int | None) -> tf.TensorSpec:
        return tf.TensorSpec([], tf.string, "texts")

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        return decode_text(contents)

    def prepare(self, example: tf.Tensor, size: int | None) -> tf.Tensor:
        return tf.ensure_shape(example, [])

    def fault(self, file: Path) -> str:
        try:
            return text_fault(file.read_bytes())
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    def fault_in(self, contents: bytes) -> str:
        return text_fault(contents)

    def augmenter(self, options: Augment, seed: int) -> Changes:
        return TextAugmenter(options, seed)


class Recordings:
    """Recordings: float32 [samples] in -1..1, of one channel.

    Args:
        audio: their rate and length.

    Raises:
        EnvironmentNotAble: what reads them is not installed.
    """

    medium = AUDIO
    refusal = "is no WAV or FLAC recording, or a damaged one"
    decoded = tf.TensorSpec([None], tf.float32)

    def __init__(self, audio: Audio) -> None:
        check_installed()
        self._audio, self._decode = audio, decoder(audio.rate_hz)

    def element(self, size: int | None) -> tf.TensorSpec:
        return tf.TensorSpec([self._audio.samples], tf.float32, "audio")

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        return self._decode(contents)

    def prepare(self, example: tf.Tensor, size: int | None) -> tf.Tensor:
        return cut_or_pad(example, self._audio.samples)

    def fault(self, file: Path) -> str:
        return audio_fault(file)

    def fault_in(self, contents: bytes) -> str:
        return audio_fault_in(contents)

    def augmenter(self, options: Augment, seed: int) -> Changes:
        return AudioAugmenter(options, seed, self._audio)


def content_of(medium: str, audio: Audio | None = None, least: int = 0) -> Content:
    """The content that ``Spec.medium`` names.

    Args:
        audio: ``data.audio`` of the spec.
        least: of pictures, see :func:`least_side`.
    """
    if medium == AUDIO.name:
        assert audio is not None, "held by the spec"
        return Recordings(audio)
    return Texts() if medium == TEXT.name else Images(least)


def content_of_spec(spec: Spec) -> Content:
    """What the examples of a spec are."""
    return content_of(spec.medium, spec.data.audio, least_side(spec))


def least_side(spec: Spec) -> int:
    """Pixels that the shorter side of a picture must keep when it is decoded; 0 where all must.

    So many that no crop of augmentation has to be enlarged.  It is the same for training and for
    all that follows, so that a picture is decoded in one way only.
    """
    data = spec.data
    if data.decode == "full" or data.image_size is None:
        return 0
    sizes = [data.image_size, *(phase.image_size or 0 for phase in spec.training.phases)]
    crop = smallest_side(data.augment.crop_area[0]) if data.augment.crop_area is not None else 1.0
    return math.ceil(max(sizes) / crop)


FEATURES = "features"
"""Key of what stands in a batch in place of its examples where a backbone is computed ahead."""


def examples_in(batch: dict[str, Any]) -> Any:
    """Of a batch what the model takes: numbers or strings, [b, ...]."""
    keys = (IMAGE.name, TEXT.name, AUDIO.name, FEATURES)
    (key,) = (key for key in keys if key in batch)
    return batch[key]
