"""The backbone that is to be looked at: fetched if need be, and loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.runs.earlier import earlier_run, first_source, spec_of
from harness.spec.keras_names import keras_name
from harness.spec.models_model import Backbone as BackboneSpec
from harness.worker.backbones import bring_alone

if TYPE_CHECKING:
    from harness.distribute.base import Distribution
    from harness.model.backbone import Backbone
    from harness.spec import Trust


def bring(wanted: BackboneSpec, sizes: tuple[int, ...], say: Callable[[str], None]) -> None:
    """Has it in the cache where it is fetched, or that which the run of a run began with."""
    paths = earlier_run(wanted.handle)
    if paths is None:
        bring_alone(wanted, sizes, say)
    else:
        first = first_source(spec_of(paths))
        bring_alone(first.backbone, first.image_sizes(), say)


def load(
    wanted: BackboneSpec,
    trust: Trust,
    pooling: str | None,
    sizes: tuple[int, ...],
    distribution: Distribution,
    say: Callable[[str], None],
) -> Backbone:
    """Loads it, frozen, once it is seen to be trusted.

    Args:
        pooling: ``head.pooling``, as far as it is known.
        sizes: of the pictures that it is to take; none leaves it to the backbone.

    Raises:
        DataError: it is not there, not trusted, or cannot be loaded.
    """
    from harness.model import backbone as backbones
    from harness.model.encoder import load_module
    from harness.model.keras_apps import RANDOM, digest_of_weights, load_application
    from harness.model.remote import IMAGENET

    name, handle = keras_name(wanted.handle), wanted.handle
    if name is not None:
        weights = wanted.weights or IMAGENET
        layer = load_application(name, weights, sizes)
        layer.trainable = False
        digest = None if weights == RANDOM else digest_of_weights(name, layer)
        return backbones.Backbone(handle, layer, digest, None)
    paths = earlier_run(handle)
    if paths is not None:
        from harness.worker.earlier import backbone_of_run

        return backbone_of_run(paths, wanted.output, sizes, trust, distribution, say)
    return load_module(wanted, pooling, backbones.Pinned(), trust)
