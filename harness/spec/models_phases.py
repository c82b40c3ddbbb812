"""The part of the spec that says what is trained when: phases, their blocks and their rates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from harness.spec.base import (
    MAPPING,
    SCALAR,
    Complaint,
    Name,
    SpecModel,
    Words,
    complain,
    kind_of,
    show,
)

Rate = Annotated[float, Field(gt=0, le=1000)]
UNFREEZE_FORMS = (
    "none, all, last:N (the last N blocks), P% (the last blocks that hold so much of the "
    "parameters) or a regular expression on the names of variables"
)
_LAST = re.compile(r"last:([1-9][0-9]{0,4})")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)%")


class LearningRates(SpecModel):
    """Learning rates of the parts of the model."""

    head: Rate
    """Rate of the head."""
    backbone: Rate
    """Rate of the backbone's last block."""
    decay_per_block: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor from each block of the backbone to the one before it."""


def last_blocks(unfreeze: str) -> int | None:
    """N of ``last:N``, else None."""
    found = _LAST.fullmatch(unfreeze)
    return int(found.group(1)) if found else None


def share(unfreeze: str) -> float | None:
    """The part, from 0 to 1, that ``P%`` means, else None."""
    found = _SHARE.fullmatch(unfreeze)
    return float(found.group(1)) / 100 if found else None


def _known_unfreeze(value: str) -> str:
    if value in ("none", "all") or last_blocks(value) is not None:
        return value
    part = share(value)
    if part is not None and 0 < part <= 1:
        return value
    if part is None and value.strip() and value.isprintable() and not value.startswith("last:"):
        try:
            re.compile(value)
        except re.error as error:
            what = f"is no regular expression ({error})"
            raise complain(Complaint("", what, show(value), UNFREEZE_FORMS)) from None
        return value
    raise complain(
        Complaint("", "does not say what is trained", show(value), UNFREEZE_FORMS)
    ) from None


UnfreezeText = Annotated[
    str,
    Field(max_length=1000),
    AfterValidator(_known_unfreeze),
    Words("text: " + UNFREEZE_FORMS),
]
LearningRate = Annotated[
    Annotated[LearningRates, Tag(MAPPING)] | Annotated[Rate, Tag(SCALAR)],
    Discriminator(kind_of),
]


class Phase(SpecModel):
    """A part of training with its own trainable set, learning rate and image size."""

    name: Name
    """Name of the phase, unique in the run."""
    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    """Passes over the training examples."""
    unfreeze: UnfreezeText = "none"
    """What of the backbone is trained, beside the head: `none`, `last:N` (its last N blocks), `P%`
    (its last blocks that together hold at most this part of its parameters), `all`, or a regular
    expression that is searched for in the names of its variables."""
    learning_rate: LearningRate = 1e-3
    """Largest learning rate of the phase; or `{head: R, backbone: R, decay_per_block: F}`."""
    backbone_mode: Literal["inference", "training"] = "inference"
    """Whether the backbone's batch normalisation keeps its stored moments and its dropout rests
    (`inference`), or both work as when it was trained (`training`)."""
    optimizer_state: Literal["keep", "restart"] = "keep"
    """What the optimizer has gathered in the phase before (moments, steps): kept, while what is
    newly unfrozen begins by itself, or all of it begun anew."""
    image_size: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Height and width in pixels in this phase; null is `data.image_size`."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Examples of one batch over all replicas in this phase; null is `training.batch_size`."""
    start_from: Literal["last", "best"] = "last"
    """Weights it starts from: the last ones of the phase before, or the best so far."""

    def checks(self) -> Iterator[Complaint]:
        if self.unfreeze != "none":
            return
        if isinstance(self.learning_rate, LearningRates):
            what = "there is no rate of the backbone, of which nothing is trained"
            got, action = show(self.learning_rate.model_dump()), "write one number, or unfreeze"
            yield Complaint("learning_rate", what, got, "one number with unfreeze: none", action)
        if self.backbone_mode == "training":
            what = "the mode of a frozen backbone is inference"
            allowed = "inference with unfreeze: none"
            yield Complaint("backbone_mode", what, show("training"), allowed, "unfreeze some of it")


FEATURE_EXTRACTION: dict[str, Any] = {
    "name": "head",
    "epochs": 10,
    "unfreeze": "none",
    "learning_rate": 1e-3,
}
"""The one phase of the strategy feature_extraction."""
