"""Backbone and head put together into the one model that is trained, evaluated and exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
import tf_keras

from harness.data.content import FEATURES, content_of_spec
from harness.distribute.base import Distribution
from harness.model.adaptation.alignment import Alignment, make_alignment
from harness.model.backbone import Backbone, input_of
from harness.model.blocks import blocks_of
from harness.model.draws import Draws
from harness.model.head import dense_head, plugin_head
from harness.model.loading import seed_layers
from harness.model.pixels import Pixels, pixels_of
from harness.model.pooling import Pooling, pooling_after
from harness.model.pretrained import Pretrained
from harness.model.task import Task
from harness.model.unfreeze import Unfrozen, unfrozen
from harness.spec import Spec


@dataclass(frozen=True)
class Trained:
    """What a phase trains of the backbone, and whether this is in training mode the while."""

    unfrozen: Unfrozen = field(default_factory=Unfrozen)
    learns: bool = False


@dataclass(frozen=True)
class Assembled:
    """The model of a run and what its training needs beside it.

    ``keras`` maps uint8 images [b, S, S, 3], texts, string [b], or recordings, float32
    [b, samples], to float32 logits [b, outputs].  ``features`` and ``from_features`` are its two
    halves, which share its layers: up to the backbone's output, and the head.  ``phases`` says what
    each phase trains.
    """

    keras: tf_keras.Model
    features: tf_keras.Model
    from_features: tf_keras.Model
    backbone: Backbone
    task: Task
    draws: Draws
    pretrained: Pretrained
    phases: tuple[Trained, ...]
    alignment: Alignment | None = None
    """The loss of an adaptation; its variables are trained and saved, and are not in ``keras``."""

    def called_on(self, batch: dict[str, Any]) -> tf_keras.Model:
        """The model that takes what stands in a batch: examples, or features of them."""
        return self.from_features if FEATURES in batch else self.keras

    def head(self) -> list[tf.Variable]:
        """The variables of the head that training changes."""
        pretrained = {id(weight) for weight in self.backbone.layer.weights}
        return [v for v in self.keras.trainable_variables if id(v) not in pretrained]

    def trainable(self, phase: int | None = None) -> list[tf.Variable]:
        """The variables that a phase changes by their gradients; None: that any phase changes."""
        phases = self.phases if phase is None else (self.phases[phase],)
        found = {id(v): v for each in phases for v in each.unfrozen.variables}
        return [*self.head(), *found.values(), *self._beside()]

    def _beside(self) -> list[tf.Variable]:
        return [] if self.alignment is None else list(self.alignment.variables)

    def enter(self, phase: int) -> None:
        """Gives the backbone the mode of a phase, for the graphs that are made from now on."""
        trained = self.phases[phase]
        self.pretrained.set_mode(trained.learns, trained.unfrozen.variables)

    def state(self, phase: int | None = None) -> dict[str, tf.Variable]:
        """Every variable that training has changed by the end of a phase (None: of the last one),
        by a name that a later process gives again.

        Of a backbone with a digest, what is frozen is not in it: the digest stands for it.
        A plug-in backbone has none, so its weights, which came from anywhere, are kept.
        """
        weights = [*self.keras.weights, *self._beside()]
        named = zip(stable_names(weights), weights, strict=True)
        if self.backbone.digest is None:
            return dict(named)
        last = len(self.phases) - 1 if phase is None else phase
        changed = self._changed(last)
        frozen = {id(weight) for weight in self.backbone.layer.weights} - changed
        return {name: weight for name, weight in named if id(weight) not in frozen}

    def keeps_backbone(self, phase: int) -> bool:
        """Whether the backbone is what its digest says until the end of a phase, in inference
        mode."""
        return not self._changed(phase) and not self.phases[phase].learns

    def _changed(self, last: int) -> set[int]:
        """Ids of what the phases up to ``last`` change of the backbone."""
        found: set[int] = set()
        for phase in self.phases[: last + 1]:
            # Moving averages move in training mode, wherever they are.
            changed = self.backbone.layer.weights if phase.learns else phase.unfrozen.variables
            found |= {id(variable) for variable in changed}
        return found

    def not_exact(self) -> list[str]:
        """Reasons why a resumed run would not repeat an undisturbed one bit for bit."""
        resting = set()
        if not any(phase.learns for phase in self.phases):
            resting = {id(layer) for layer in self.pretrained.submodules}
        return [
            f"layer {layer.name} ({type(layer).__name__}) draws random numbers from its own state"
            for layer in self.keras.submodules
            if isinstance(layer, tf_keras.layers.Layer)
            and id(layer) not in resting
            and hasattr(layer, "_random_generator")
            and not (isinstance(layer, tf_keras.layers.Dropout) and layer.rate == 0)
        ]


def assemble(
    spec: Spec, backbone: Backbone, task: Task, distribution: Distribution, sizes: Sequence[int]
) -> Assembled:
    """Builds the model; its initial weights depend on ``training.seed`` alone.

    Args:
        sizes: of pictures that it is to take; of several it takes any, of one that alone.

    Raises:
        SpecError: the head plug-in's result does not fit.
    """
    head = spec.head
    draws = Draws(spec.training.seed, distribution)
    seed_layers(spec)  # again: the head must not depend on how much the backbone has drawn
    content = content_of_spec(spec)
    element = content.element(sizes[0] if len(sizes) == 1 else None)
    inputs = tf_keras.Input(element.shape, dtype=element.dtype, name=element.name)
    prepared = inputs
    if element.dtype == tf.uint8:
        prepared = Pixels(pixels_of(spec, backbone), name="from_bytes")(inputs)
    pretrained = Pretrained(backbone.layer, name="backbone")
    features = pretrained(prepared)
    if (pooling := pooling_after(spec)) is not None:
        features = Pooling(pooling, name="pooling")(features)
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
    halves = tf_keras.Model(inputs, features), tf_keras.Model(features, logits)
    one = input_of(content.element(sizes[0] if sizes else None))
    phases = trained_by_phase(spec, backbone, one, distribution)
    alignment = make_alignment(spec, model, draws)
    return Assembled(model, *halves, backbone, task, draws, pretrained, phases, alignment)


def trained_by_phase(
    spec: Spec, backbone: Backbone, takes: tf.TensorSpec, distribution: Distribution
) -> tuple[Trained, ...]:
    """What each phase of a spec trains of the backbone.

    Raises:
        SpecError: ``unfreeze`` of one means nothing for this backbone.
    """
    phases = spec.training.phases
    if all(phase.unfreeze == "none" for phase in phases):
        return tuple(Trained() for _ in phases)
    blocks = blocks_of(backbone.layer, takes, distribution)
    trainable = backbone.trainable()
    return tuple(
        Trained(
            unfrozen(phase.unfreeze, blocks, trainable, f"training.phases.{at}.unfreeze"),
            phase.backbone_mode == "training",
        )
        for at, phase in enumerate(phases)
    )


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
