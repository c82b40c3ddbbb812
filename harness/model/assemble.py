"""Backbone and head put together into the one model that is trained, evaluated and exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from harness.data.content import content_of_spec
from harness.distribute.base import Distribution
from harness.model import backbone as backbones
from harness.model.backbone import Backbone
from harness.model.draws import Draws
from harness.model.head import dense_head, plugin_head
from harness.model.pixels import UNIT, Pixels
from harness.model.task import Task
from harness.plugins import PREFIX
from harness.spec import Spec, Trust


@dataclass(frozen=True)
class Assembled:
    """The model of a run and what its training needs beside it.

    ``keras`` maps uint8 images [b, S, S, 3], texts, string [b], or recordings, float32
    [b, samples], to float32 logits [b, outputs].
    """

    keras: tf_keras.Model
    backbone: Backbone
    task: Task
    draws: Draws

    def trainable(self) -> list[tf.Variable]:
        """The variables that training changes: the head's, as the backbone is frozen."""
        return list(self.keras.trainable_variables)

    def state(self) -> dict[str, tf.Variable]:
        """Every variable that training may change, by a name that a later process gives again.

        The weights of a frozen backbone with a digest are not in it: the digest stands for them.
        A plug-in backbone has none, so its weights, which came from anywhere, are kept.
        """
        pinned = self.backbone.layer.weights if self.backbone.digest is not None else []
        frozen = {id(weight) for weight in pinned}
        kept = [weight for weight in self.keras.weights if id(weight) not in frozen]
        return dict(zip(stable_names(kept), kept, strict=True))

    def not_exact(self) -> list[str]:
        """Reasons why a resumed run would not repeat an undisturbed one bit for bit."""
        return [
            f"layer {layer.name} ({type(layer).__name__}) draws random numbers from its own state"
            for layer in self.keras.submodules
            if isinstance(layer, tf_keras.layers.Layer)
            and hasattr(layer, "_random_generator")
            and not (isinstance(layer, tf_keras.layers.Dropout) and layer.rate == 0)
        ]


def load_backbone(spec: Spec, image_size: int | None, pinned: str | None, trust: Trust) -> Backbone:
    """The backbone that ``spec`` names, held against the digests that spec and run pin.

    Nothing of it is loaded before it is seen to be trusted and unchanged.

    Args:
        pinned: digest in the run's record, None at its first start.
    """
    handle = spec.backbone.handle
    # Unnamed layers are numbered a process long; a second run in one process must get the
    # names of the first, as its checkpoints go by them.
    tf_keras.backend.reset_uids()
    _seed(spec)
    takes = backbones.input_of(content_of_spec(spec).element(image_size))
    if handle.startswith(PREFIX):
        return backbones.load_plugin(handle, spec.backbone.options or {}, image_size, takes)
    folder = backbones.locate(handle)
    digest = backbones.digest_of(folder)
    backbones.check_digest(digest, spec.backbone.digest, handle, "the spec")
    backbones.check_digest(digest, pinned, handle, "the run")
    backbones.check_trusted(folder, digest, trust)
    wanted = backbones.Called(spec.backbone.signature, spec.backbone.output)
    return backbones.load_hub(folder, handle, digest, takes, wanted)


def assemble(
    spec: Spec, backbone: Backbone, task: Task, distribution: Distribution, image_size: int | None
) -> Assembled:
    """Builds the model; its initial weights depend on ``training.seed`` alone.

    Raises:
        SpecError: the head plug-in's result does not fit.
    """
    head = spec.head
    draws = Draws(spec.training.seed, distribution)
    _seed(spec)  # again: the head must not depend on how much the backbone has drawn
    element = content_of_spec(spec).element(image_size)
    inputs = tf_keras.Input(element.shape, dtype=element.dtype, name=element.name)
    prepared = inputs
    if element.dtype == tf.uint8:
        prepared = Pixels(spec.backbone.pixels or UNIT, name="from_bytes")(inputs)
    features = backbone.layer(prepared)
    if head.plugin is not None:
        logits = plugin_head(head.plugin.plugin, head.plugin.options, features, task.outputs, draws)
    else:
        logits = dense_head(
            features,
            task.outputs,
            hidden=head.hidden,
            activation=head.activation,
            dropout=head.dropout,
            draws=draws,
            seed=spec.training.seed & 0x7FFFFFFF,
            batch_norm=head.batch_norm,
        )
    model = tf_keras.Model(inputs, logits, name="harness")
    return Assembled(model, backbone, task, draws)


def _seed(spec: Spec) -> None:
    """Plug-in layers without a seed of their own draw their initial weights from this one."""
    tf_keras.utils.set_random_seed(spec.training.seed & 0xFFFFFFFF)


def stable_names(variables: Sequence[tf.Variable]) -> list[str]:
    """Names that depend only on the order and the layers' own names, made unique by a number."""
    taken: dict[str, int] = {}
    names = []
    for variable in variables:
        name = variable.name.split(":")[0]
        number = taken.get(name, 0)
        taken[name] = number + 1
        names.append(name if number == 0 else f"{name}#{number}")
    return names
