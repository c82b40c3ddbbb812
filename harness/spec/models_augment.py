"""The part of the spec that says how training examples are changed at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, Strict

from harness.spec.base import Complaint, Many, PluginRef, SpecModel, show

Unit01 = Annotated[float, Field(ge=0, le=1)]


class RandAugment(SpecModel):
    """RandAugment (Cubuk et al., 2020): operations drawn from a fixed list, all of one strength."""

    ops: Annotated[int, Field(ge=1, le=8)] = 2
    """Operations for each picture, one after the other; the paper's N."""
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    """Strength of each operation, 0 (none) to 10; the paper's M."""


class SpecAugment(SpecModel):
    """SpecAugment (Park et al., 2019): bands of a recording's spectrogram are silenced."""

    time_masks: Annotated[int, Field(ge=0, le=20)] = 2
    """Bands of time."""
    time_part: Unit01 = 0.1
    """Longest of them, as a part of the recording (0 to 1)."""
    frequency_masks: Annotated[int, Field(ge=0, le=20)] = 2
    """Bands of frequency."""
    frequency_part: Unit01 = 0.1
    """Widest of them, as a part of the frequencies up to half the rate (0 to 1)."""


class Augment(SpecModel):
    """Random changes of training examples; each is a pure function of (seed, epoch, example).
    Those that do not say otherwise are of pictures; `plugins` are of all."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror at random along this axis, each with probability one half."""
    rotate_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Rotate by a uniform angle in [-rotate_deg, rotate_deg] degrees."""
    crop_area: Annotated[tuple[float, float], Strict(False)] | None = None
    """Crop a uniform part [low, high] of the area, 0 < low <= high <= 1; null does not crop."""
    zoom: Unit01 = 0.0
    """Enlarge by a factor in [1 / (1 + zoom), 1 + zoom], uniform in its logarithm (0 to 1)."""
    shear_deg: Annotated[float, Field(ge=0, le=40)] = 0.0
    """Slant along each axis by a uniform angle in [-shear_deg, shear_deg] degrees (0 to 40)."""
    translate: Unit01 = 0.0
    """Shift along each axis by a uniform part in [-translate, translate] of the side (0 to 1)."""
    brightness: Unit01 = 0.0
    """Add a uniform value in [-brightness, brightness] of the full range (0 to 1)."""
    contrast: Unit01 = 0.0
    """Scale the distance to the mean by a uniform factor in [1 - contrast, 1 + contrast]."""
    saturation: Unit01 = 0.0
    """Scale the distance to grey by a uniform factor in [1 - saturation, 1 + saturation]."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Turn the hue by a uniform part in [-hue, hue] of the colour circle (0 to 0.5)."""
    randaugment: RandAugment | None = None
    """A few operations of one strength, drawn from the list of RandAugment; null for none."""
    cutout: Unit01 = 0.0
    """Cover a square with grey; its side as a part of the picture's (0 to 1), 0 for none."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Blend each picture with one of the batch before, and their losses likewise; the shares are
    drawn from Beta(mixup, mixup), the larger one is the picture's own (0 to 100), 0 for none."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Cover a square with that of a picture of the batch before, and mix their losses by area; the
    areas are drawn from Beta(cutmix, cutmix) as with mixup (0 to 100), 0 for none. With mixup
    also set, each example draws one of the two."""
    word_drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of texts: leave out each word with this probability (0 to below 1); one always stays."""
    time_shift: Unit01 = 0.0
    """Of recordings: shift by a uniform part in [-time_shift, time_shift] of the length (0 to 1);
    silence follows."""
    noise: Unit01 = 0.0
    """Of recordings: add white noise, whose level is a uniform part in [0, noise] of the
    recording's own (0 to 1; levels are root mean squares)."""
    spec_augment: SpecAugment | None = None
    """Of recordings: silence bands of time and of frequency; null for none."""
    plugins: Many[PluginRef] = ()
    """Plug-ins of kind augmentation, applied in this order after the rest."""

    def checks(self) -> Iterator[Complaint]:
        if self.crop_area is not None:
            low, high = self.crop_area
            if not 0 < low <= high <= 1:
                yield Complaint(
                    "crop_area",
                    "is not a range of areas",
                    show(self.crop_area),
                    "[low, high] with 0 < low <= high <= 1",
                )

    def of_other_media(self, medium: str) -> Iterator[Complaint]:
        """Complains of what is set and means nothing to examples of ``medium``."""
        for name, field in type(self).model_fields.items():
            of = AUGMENT_MEDIUM.get(name, "image")
            value = getattr(self, name)
            if of not in (medium, "all") and value != field.default:
                yield Complaint(
                    f"augment.{name}",
                    f"changes {MEDIA_WORDS[of]}, and the examples are {MEDIA_WORDS[medium]}",
                    show(value.model_dump() if isinstance(value, SpecModel) else value),
                    show(field.default),
                    "remove it, or change task",
                )


AUGMENT_MEDIUM = {
    "word_drop": "text",
    "time_shift": "audio",
    "noise": "audio",
    "spec_augment": "audio",
    "plugins": "all",
}
"""What each field of :class:`Augment` changes, where that is not pictures."""
MEDIA_WORDS = {"image": "pictures", "text": "texts", "audio": "recordings"}
