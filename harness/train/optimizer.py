"""Optimizers of Keras and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import tensorflow as tf
import tf_keras

from harness.model.blocks import NORM_LAYER
from harness.train.parted import parted
from harness.train.plan import Phase

if TYPE_CHECKING:
    from harness.spec import Spec

_MAKERS = {
    "adam": parted(tf_keras.optimizers.Adam),
    "adamw": parted(tf_keras.optimizers.AdamW),
    "sgd": parted(tf_keras.optimizers.SGD),
    "rmsprop": parted(tf_keras.optimizers.RMSprop),
}

# What the field calls these is spelled differently by every layer and library: a name is looked
# at from its layer on (`bert/layer_0/LayerNorm/gamma`, `layer.0.norm1.weight`, `bn_Conv1/beta`).
_EXCLUDE = {
    "bias": r"(?i)(bias|beta)[^/.]*$",
    "norm": rf"(?i)(gamma|beta)[^/.]*$|({NORM_LAYER})[^/.]*[/.][^/.]*$",
}


def make_optimizer(spec: Spec) -> tf_keras.optimizers.Optimizer:
    """The optimizer of ``training.optimizer``; its learning rate is set before every step.

    Weight decay is decoupled (Loshchilov and Hutter, 2019) for every optimizer; an L2 penalty is a
    part of the gradients, which are clipped by their global norm.
    """
    wanted = spec.training.optimizer
    options = {
        "learning_rate": 0.0,
        # AdamW insists on a number; for the others None is what switches the decay off.
        "weight_decay": wanted.weight_decay or (0.0 if wanted.name == "adamw" else None),
        "global_clipnorm": wanted.clip_norm,
        # XLA compiles the update anew for every shape and gains nothing on a small head.
        "jit_compile": False,
    }
    if spec.training.ema is not None:
        options |= {"use_ema": True, "ema_momentum": spec.training.ema.decay}
    if wanted.name in ("sgd", "rmsprop"):
        options["momentum"] = wanted.momentum or 0.0
    optimizer = _MAKERS[wanted.name](**options)
    optimizer.l2 = wanted.l2
    if (wanted.weight_decay or wanted.l2) and wanted.exclude:
        names = [_EXCLUDE[name] for name in wanted.exclude]
        optimizer.exclude_from_weight_decay(var_names=names)
    return optimizer


def learning_rate(phase: Phase, phase_step: tf.Tensor) -> tf.Tensor:
    """float32 scalar: the rate of the step that follows ``phase_step`` steps of ``phase``.

    Rises linearly to the phase's rate over its warm-up, then stays (``constant``), falls to 0
    along half a cosine (``cosine``; Loshchilov and Hutter, 2017, without restarts) or along a
    line (``linear``) at the end of the phase as planned, or is multiplied by a factor after each
    length of steps (``step``).  What a metric makes of it (``plateau``) comes on top.
    """
    step = tf.cast(phase_step, tf.float32)
    peak = tf.constant(phase.learning_rate, tf.float32)
    warmup = float(phase.warmup_steps)
    share = (step - warmup) / max(1.0, phase.steps - warmup)
    if phase.schedule == "cosine":
        rate = peak * 0.5 * (1.0 + tf.cos(math.pi * share))
    elif phase.schedule == "linear":
        rate = peak * (1.0 - share)
    elif phase.schedule == "step":
        rate = peak * tf.pow(phase.drop_factor, tf.floor(step / phase.drop_steps))
    elif phase.schedule in ("constant", "plateau"):
        rate = peak
    else:
        raise ValueError(f"unknown schedule {phase.schedule!r}")
    if warmup:
        rate = tf.where(step < warmup, peak * (step + 1.0) / warmup, rate)
    return rate
