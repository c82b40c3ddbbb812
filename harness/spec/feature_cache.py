"""What stands against ``training.feature_cache`` where a spec asks for it by name."""

from __future__ import annotations

from collections.abc import Iterator

from harness.spec.base import Complaint, show
from harness.spec.models_augment import Augment
from harness.spec.models_data import DataSpec
from harness.spec.models_training import FeatureCache, Training

_FIELD = "training.feature_cache"


def cannot_cache(handle: str, data: DataSpec, training: Training) -> Iterator[Complaint]:
    """Complains of what makes the features of the training examples impossible to cache.

    Args:
        handle: ``backbone.handle``.
    """
    wanted = training.feature_cache
    if not isinstance(wanted, FeatureCache):
        return
    augment, got = data.augment, show(wanted.model_dump(mode="json"))
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
