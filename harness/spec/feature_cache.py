"""What a spec says for and against keeping features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.spec.base import Complaint, show
from harness.spec.models_augment import Augment
from harness.spec.models_data import DataSpec
from harness.spec.models_training import FeatureCache, Training

if TYPE_CHECKING:
    from harness.spec.models import Spec

_FIELD = "training.feature_cache"


def cannot_cache(
    handle: str, data: DataSpec, training: Training, *, adapts: bool
) -> Iterator[Complaint]:
    """Complains of what makes the features of the training examples impossible to cache.

    Args:
        handle: ``backbone.handle``.
        adapts: there is an ``adaptation``.
    """
    wanted = training.feature_cache
    if not isinstance(wanted, FeatureCache):
        return
    augment, got = data.augment, show(wanted.model_dump(mode="json"))
    if adapts:
        what = "features of an adaptation are not kept"
        yield Complaint(_FIELD, what, got, "auto or off with adaptation")
    if training.phases and training.phases[0].unfreeze != "none":
        what = "there are no features to cache: the first phase trains the backbone already"
        yield Complaint(_FIELD, what, got, "auto, or a first phase with unfreeze: none")
    if augment.mixup or augment.cutmix:
        what = "examples that are mixed anew in every step have no features of their own"
        yield Complaint(_FIELD, what, got, "auto, or no mixup and no cutmix")
    if augment.plugins:
        what = "no digest tells what an augmentation plug-in does, so its features are not kept"
        yield Complaint(_FIELD, what, got, "auto, or no data.augment.plugins")
    if wanted.copies > 1 and augment == Augment():
        what = "nothing changes the examples, so all copies would be the same"
        yield Complaint(f"{_FIELD}.copies", what, show(wanted.copies), "1 without data.augment")
    for field, name in (("data.source", data.source), ("backbone.handle", handle)):
        if name is not None and (field == "data.source" or handle.startswith("plugin:")):
            what = f"no digest tells what the plug-in of {field} gives"
            yield Complaint(_FIELD, what, got, f"auto, or no plug-in as {field}")


def why_not_training(data: DataSpec, training: Training, *, changes: bool) -> str | None:
    """Why features of training examples are not cached, by what the spec says; None where it says
    nothing against it.

    Args:
        changes: augmentation changes examples one by one.
    """
    augment, asked = data.augment, isinstance(training.feature_cache, FeatureCache)
    if augment.mixup or augment.cutmix:
        return "augmentation mixes examples, which changes them anew in every step"
    if changes and not asked:
        return (
            "augmentation changes them anew in every epoch; training.feature_cache: {copies: 4} "
            "would go round four changed copies of each"
        )
    if changes and augment.plugins:
        return "a plug-in augments them, and no digest tells what it does"
    return None


def planned(spec: Spec, phase: int) -> str | None:
    """What a plan says of the features of a phase, whose backbone may be frozen; None of one that
    trains it.

    Whether there is room, and whether they are there already, shows when the run begins.
    """
    training, data = spec.training, spec.data
    if any(each.unfreeze != "none" for each in training.phases[: phase + 1]):
        return None
    every = "computes the backbone in every epoch: "
    if training.feature_cache == "off":
        return every + "training.feature_cache is off"
    if spec.adaptation is not None:
        return every + "the features of an adaptation are not kept"
    random = spec.backbone.weights == "random"
    for is_so, what in (
        (spec.backbone.handle.startswith("plugin:"), "a plug-in makes it"),
        (random, "its weights are random"),
        (data.source is not None, "a plug-in gives the examples"),
    ):
        if is_so:
            return f"{every}{what}, and no digest tells what it gives"
    alike = [at for at in range(phase, len(training.phases)) if _alike(spec, phase, at)]
    asked = isinstance(training.feature_cache, FeatureCache)
    if not asked and sum(training.phases[at].epochs for at in alike) < 2:
        return "computes the backbone once, in its one epoch, unless the cache has its features"
    reason = why_not_training(data, training, changes=_changes(data.augment))
    if reason is not None:
        return f"{every}of the training examples, as {reason}"
    copies = (
        training.feature_cache.copies if isinstance(training.feature_cache, FeatureCache) else 1
    )
    many = f"{copies} changed copies of each training example" if copies > 1 else "its examples"
    return f"reads features of {many}, which are computed once"


def _alike(spec: Spec, phase: int, other: int) -> bool:
    """Whether two phases read the same features, if the first reads any."""
    frozen = all(each.unfreeze == "none" for each in spec.training.phases[: other + 1])
    return frozen and spec.image_size_of(phase) == spec.image_size_of(other)


def _changes(augment: Augment) -> bool:
    """Whether examples are changed one by one."""
    return augment.model_copy(update={"mixup": Augment().mixup, "cutmix": Augment().cutmix}) != (
        Augment()
    )
