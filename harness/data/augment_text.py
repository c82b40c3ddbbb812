"""Random changes of training texts, as a pure function of (seed, epoch, example).

The draws of a text depend on its name, not on where it is read from, nor on rank, thread or batch.
A plug-in of kind ``augmentation`` is called as ``change(text, seed, **options) -> text`` with a
string scalar and an int64 [2] seed for TensorFlow's stateless ops; it must be graph code.

The order is: word drop, plug-ins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from harness.data.augment_plugins import AugmentPlugins
from harness.data.seeds import fold, key_of, seed_pair

if TYPE_CHECKING:
    from harness.spec.models_augment import Augment

# By the number of its key each use has draws of its own.  Never renumber: a resumed run must draw
# the same.
_WORD_DROP = 1


class TextAugmenter:
    """Augments texts by ``options``.

    Args:
        options: ``data.augment`` of the spec.
        seed: the training seed.

    Raises:
        UsageError: a plug-in that is not registered.
    """

    def __init__(self, options: Augment, seed: int) -> None:
        self._drop = options.word_drop
        self._seed = seed
        self._plugins = AugmentPlugins(options.plugins)

    @property
    def changes(self) -> bool:
        """False when the options leave every text as it is."""
        return bool(self._drop or self._plugins)

    def hidden_randomness(self, size: int | None) -> list[str]:
        """A sentence for every plug-in that draws random numbers which no resume repeats."""
        return self._plugins.hidden_randomness(tf.TensorSpec([], tf.string))

    def __call__(
        self, text: tf.Tensor, size: int | None, epoch: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """The augmented text, a string scalar.

        Args:
            text: string scalar.
            size: nothing to texts.
            epoch: int64 scalar.
            key: int64 scalar, :func:`harness.data.augment.example_key`.
        """
        epoch_key = fold(key_of(self._seed), epoch)
        if self._drop:
            text = drop_words(text, self._drop, seed_pair(fold(epoch_key, _WORD_DROP), key))
        return tf.ensure_shape(self._plugins.apply(text, epoch_key, key), [])


def drop_words(text: tf.Tensor, part: float, seed: tf.Tensor) -> tf.Tensor:
    """The text without some of its words, which then stand one space apart.

    Words are what stands between spaces.  Each is left out with probability ``part``; where that
    would be all of them, the one with the largest draw stays.

    Args:
        text: string scalar.
        part: in [0, 1).
        seed: int64 [2].
    """
    words = tf.strings.split(text)
    draws = tf.random.stateless_uniform(tf.shape(words), seed, alg=tf.random.Algorithm.PHILOX)
    # Nothing to find the largest of in a text of spaces alone, which a plug-in may give.
    most = tf.reduce_max(tf.concat([draws, [0.0]], 0))
    kept = tf.boolean_mask(words, (draws >= part) | (draws == most))
    return tf.strings.reduce_join(kept, separator=" ")
