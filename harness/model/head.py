"""The new part of the model: from the backbone's features to one output a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from harness.errors import SpecError
from harness.model.draws import Draws, Dropout
from harness.model.guard import Barrier, LastDense
from harness.model.norm import SyncBatchNorm
from harness.plugins import registry


def dense_head(
    features: tf.Tensor,
    outputs: int,
    *,
    hidden: Sequence[int],
    activation: str,
    dropout: float,
    draws: Draws,
    seed: int,
    batch_norm: bool = False,
) -> tf.Tensor:
    """Dropout, then dense layers of ``hidden`` widths with dropout after each, then the outputs.

    Args:
        features: float [b, f].
        outputs: width of the last layer, which is linear (logits).
        hidden: widths of the layers between; empty gives a linear classifier.
        activation: a Keras activation name for the hidden layers.
        dropout: rate in [0, 1), on the features and after every hidden layer.
        seed: of the initial weights.
        batch_norm: normalise each hidden layer over the global batch, before its activation.

    Returns:
        float32 [b, outputs], logits.
    """
    x = features
    if dropout:
        x = Dropout(dropout, draws, 0, name="head_dropout")(x)
    for number, width in enumerate(hidden):
        x = tf_keras.layers.Dense(
            width,
            activation=None if batch_norm else activation,
            use_bias=not batch_norm,  # the norm has one of its own
            kernel_initializer=tf_keras.initializers.GlorotUniform(seed=seed + number),
            name=f"head_dense_{number}",
        )(x)
        if batch_norm:
            x = SyncBatchNorm(draws.distribution, name=f"head_norm_{number}")(x)
            x = tf_keras.layers.Activation(activation, name=f"head_activation_{number}")(x)
        if dropout:
            x = Dropout(dropout, draws, number + 1, name=f"head_dropout_{number}")(x)
    return LastDense(
        outputs,
        kernel_initializer=tf_keras.initializers.GlorotUniform(seed=seed + len(hidden)),
        dtype="float32",
        name="head_output",
    )(x)


def plugin_head(
    name: str, options: Mapping[str, Any], features: tf.Tensor, outputs: int, draws: Draws
) -> tf.Tensor:
    """Calls the user's head ``(features, outputs, draws, **options)`` and checks its result.

    Raises:
        SpecError: the plug-in's result is not [b, outputs].
    """
    build: Callable[..., Any] = registry.get("head", name)
    logits = build(features, outputs, draws, **options)
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 2 or shape[-1] != outputs:
        raise SpecError(
            "the head plug-in gives no [batch, outputs] tensor",
            got=f"shape {tuple(shape) if shape is not None else type(logits).__name__}",
            allowed=f"(None, {outputs})",
            action="end the head with a linear Dense(outputs)",
            path="head.plugin",
        )
    return Barrier(name="logits")(logits)
