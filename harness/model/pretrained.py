"""The backbone as a layer of the model: in inference mode unless a phase asks for the other."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras

from harness.tracing import as_written


class _Told(tf_keras.layers.Layer):
    """Around a layer that takes no ``training``: those inside of it ask Keras, which knows it from
    this one."""

    def __init__(self, inner: tf_keras.layers.Layer) -> None:
        super().__init__()
        self._inner = inner

    @as_written
    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self._inner(inputs)


class Pretrained(tf_keras.layers.Layer):
    """Calls a backbone in inference mode, also while the head on top of it is trained.

    Keras puts only batch normalisation into inference mode where a layer is frozen; dropout inside
    of it would go on.  A phase whose ``backbone_mode`` is ``training`` calls it as in training: a
    SavedModel as a whole; of Keras layers the normalisations that it trains, and all dropout.

    Args:
        inner: the backbone; its weights are this layer's.
    """

    def __init__(self, inner: tf_keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.inner = inner
        self._learns = False
        self._always = False
        self._to_call = inner
        if "training" not in inspect.signature(inner.call).parameters:
            self._to_call = _Told(inner)

    @as_written
    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Examples in, features [b, f] out."""
        mode = training if self._learns else False
        return self._to_call(inputs, training=True if self._always else mode)

    @contextmanager
    def in_training(self, always: bool) -> Iterator[None]:
        """Graphs that are made within call the backbone in training mode, if ``always``, whatever
        mode the model is called in."""
        kept = self.trainable, self.inner.trainable  # type: ignore[has-type]
        if always:
            self._always = self.trainable = self.inner.trainable = True
        try:
            yield
        finally:
            self._always = False
            self.trainable, self.inner.trainable = kept

    def set_mode(self, training: bool, trained: Iterable[tf.Variable]) -> None:
        """Which mode the graphs that are made from now on have.

        Args:
            training: ``backbone_mode`` is ``training``.
            trained: the variables of the backbone that the phase trains.
        """
        self._learns = training
        self.trainable = False
        if not training:
            return
        chosen = {id(variable) for variable in trained}
        # Of a SavedModel there is one layer; a part of it cannot be in another mode.
        layers = [each for each in self.submodules if isinstance(each, tf_keras.layers.Layer)]
        for layer in [self, *layers]:
            layer.trainable = True
        for layer in layers:
            own = layer.weights
            inside = any(isinstance(each, tf_keras.layers.Layer) for each in layer.submodules)
            if own and not inside and not any(id(variable) in chosen for variable in own):
                layer.trainable = False
