"""The backbone that a spec names: loaded, and held against what is pinned and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import tf_keras

from harness.data.content import content_of_spec
from harness.distribute.base import Distribution
from harness.errors import DataError, SpecError
from harness.model import backbone as backbones
from harness.model.backbone import Backbone, Pinned
from harness.model.encoder import load_module
from harness.model.fit import check_fit
from harness.model.keras_apps import (
    RANDOM,
    digest_of_weights,
    load_application,
    with_global_norms,
)
from harness.model.pinned import check_digest
from harness.model.pooling import pooling_after
from harness.model.remote import IMAGENET
from harness.plugins import PREFIX
from harness.spec import Spec, Trust
from harness.spec.keras_names import keras_name


def load_backbone(
    spec: Spec,
    sizes: Sequence[int],
    pinned: Pinned | None,
    trust: Trust,
    distribution: Distribution,
) -> Backbone:
    """The backbone that ``spec`` names, held against the digests that spec and run pin.

    Nothing of it is loaded before it is seen to be trusted and unchanged.

    Args:
        sizes: height and width in pixels of the pictures that it is to take; none of no pictures.
        pinned: digests in the run's record, None at its first start.

    Raises:
        DataError: it is not there, not the one, not trusted, or does not fit.
        SpecError: it does not take the size that a phase has.
    """
    backbone = load_source(spec, sizes, pinned or Pinned(), trust, distribution)
    check_takes(spec, backbone, sizes)
    return backbone


def check_takes(spec: Spec, backbone: Backbone, sizes: Sequence[int]) -> None:
    """Holds that a backbone takes the examples of a spec and gives what a head can be put on.

    Raises:
        DataError: it does not.
        SpecError: it does not take the size that a phase has.
    """
    content = content_of_spec(spec)
    for size in sizes or (None,):
        try:
            takes = backbones.input_of(content.element(size))
            check_fit(backbone.layer, takes, pooling_after(spec))
        except DataError as error:
            for at, phase in enumerate(spec.training.phases):
                if phase.image_size == size and size is not None:
                    field = f"training.phases.{at}.image_size"
                    problem = replace(error.problems[0], path=field, action=f"change {field}")
                    raise SpecError(problem) from error
            raise


def load_source(
    spec: Spec,
    sizes: Sequence[int],
    pinned: Pinned,
    trust: Trust,
    distribution: Distribution,
) -> Backbone:
    """As :func:`load_backbone`, whatever the spec's examples are.

    Raises:
        DataError: it is not there, not the one, or not trusted.
    """
    handle = spec.backbone.handle
    # Unnamed layers are numbered a process long; a second run in one process must get the
    # names of the first, as its checkpoints go by them.
    tf_keras.backend.reset_uids()
    seed_layers(spec)
    name = keras_name(handle)
    if name is not None:
        return _application(spec, sizes, name, pinned.backbone, distribution)
    if handle.startswith(PREFIX):
        return backbones.load_plugin(handle, spec.backbone.options or {}, spec.data.image_size)
    return load_module(spec.backbone, spec.head.pooling, pinned, trust)


def check_pinned(digest: str | None, spec: Spec, pinned: str | None) -> None:
    """Holds the digest of a backbone against those that the spec and its run pin.

    Raises:
        DataError: it is another.
    """
    if digest is not None:
        handle = spec.backbone.handle
        check_digest(digest, spec.backbone.digest, handle, "the spec")
        check_digest(digest, pinned, handle, "the run")


def _application(
    spec: Spec, sizes: Sequence[int], name: str, pinned: str | None, distribution: Distribution
) -> Backbone:
    weights = spec.backbone.weights or IMAGENET
    # Which weights of ImageNet there are for an application may hang on the size.
    layer = load_application(name, weights, spec.image_sizes(), spec.head.pooling)
    digest = None if weights == RANDOM else digest_of_weights(name, layer)
    check_pinned(digest, spec, pinned)
    if not set(sizes) <= set(spec.image_sizes()):
        tf_keras.backend.reset_uids()  # unnamed layers have the same names again
        other = load_application(name, RANDOM, sizes, spec.head.pooling)
        other.set_weights(layer.get_weights())
        layer = other
    layer = with_norms_of(spec, layer, distribution)
    layer.trainable = False
    return Backbone(spec.backbone.handle, layer, digest, None)


def with_norms_of(spec: Spec, layer: tf_keras.Model, distribution: Distribution) -> tf_keras.Model:
    """A Keras application as the phases of a spec need it: where one has it in training mode, its
    batch normalisations go by the global batch."""
    learns = any(phase.backbone_mode == "training" for phase in spec.training.phases)
    return with_global_norms(layer, distribution) if learns else layer


def seed_layers(spec: Spec) -> None:
    """Plug-in layers without a seed of their own draw their initial weights from this one."""
    tf_keras.utils.set_random_seed(spec.training.seed & 0xFFFFFFFF)
