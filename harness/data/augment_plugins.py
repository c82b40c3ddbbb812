"""The user's own changes of training examples: plug-ins of kind ``augmentation``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from harness.data.randomness import hidden_random_ops
from harness.data.seeds import Key, fold, seed_pair
from harness.plugins import registry

if TYPE_CHECKING:
    from harness.spec.base import PluginRef

_PLUGIN = 1_000
"""Of the keys of their draws the first: never change it, a resumed run must draw the same."""


class AugmentPlugins:
    """The plug-ins of a spec, in their order.

    Raises:
        UsageError: one is not registered.
    """

    def __init__(self, refs: Sequence[PluginRef]) -> None:
        self._held: list[tuple[str, Any, dict[str, Any]]] = [
            # In a tf.function of its own, so that a plug-in may use `if` and `for` on tensors.
            (
                ref.plugin,
                tf.function(registry.get("augmentation", ref.plugin)),
                dict(ref.options or {}),
            )
            for ref in refs
        ]

    def __len__(self) -> int:
        return len(self._held)

    def hidden_randomness(self, example: tf.TensorSpec) -> list[str]:
        """A sentence for every one that draws random numbers which no resume repeats."""
        seed, found = tf.TensorSpec([2], tf.int64), []
        for name, function, options in self._held:
            ops = hidden_random_ops(function.get_concrete_function(example, seed, **options))
            if ops:
                found.append(f"augmentation {name} draws from hidden state: {', '.join(ops)}")
        return found

    def apply(self, example: tf.Tensor, epoch_key: Key, key: tf.Tensor) -> tf.Tensor:
        """The example after all of them; what they give has its dtype and shape.

        Args:
            epoch_key: of seed and epoch.
            key: int64 scalar, of the example.
        """
        dtype, shape = example.dtype, example.shape
        for row, (_, plugin, options) in enumerate(self._held):
            example = plugin(example, seed_pair(fold(epoch_key, _PLUGIN + row), key), **options)
            if dtype.is_floating:
                example = tf.cast(example, dtype)
            example = tf.ensure_shape(example, shape)
        return example
