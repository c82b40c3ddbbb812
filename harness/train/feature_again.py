"""Features that the cache cannot give any more, computed where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from harness.data.content import examples_in
from harness.data.feature_read import FeatureReader, Taken
from harness.data.feature_store import BAD, GOOD
from harness.data.rows import Listed
from harness.distribute.base import Distribution
from harness.tracing import as_written
from harness.train.feature_cache import Source


class Again:
    """Computes features anew, on this rank alone; safe to call from several threads.

    Args:
        backbone: examples to features, in inference mode.
        make: gives the source of the entry that cannot be read, once it is needed.
    """

    def __init__(self, backbone: tf_keras.Model, make: Callable[[], Source]) -> None:
        self._make = make
        self._source: Source | None = None
        self._call = tf.function(
            as_written(lambda examples: tf.cast(backbone(examples, training=False), tf.float32)),
            reduce_retracing=True,
        )

    def __call__(self, positions: NDArray[np.int64]) -> Taken:
        """What the entry holds of examples.

        Args:
            positions: canonical, of the source.
        """
        source = self._source = self._source or self._make()
        known = source.known
        ranks = np.array([known.first_from(at) for at in positions.tolist()], np.int64)
        listed = Listed(len(ranks), lambda at: ranks[at], source.copy)
        size = min(source.batch, len(ranks))
        batches = source.feed.listed(listed, size, source.image_size)
        parts = [
            (self._call(examples_in(batch)), batch["good"], batch["weight"])
            for batch in batches.take(-(-len(ranks) // size))
        ]
        features, good, weight = (
            np.concatenate([np.asarray(each) for each in part])[: len(ranks)]
            for part in zip(*parts, strict=True)
        )
        return Taken(features, np.where(good, GOOD, BAD).astype(np.uint8), weight)


def failure_of(readers: Iterable[FeatureReader], distribution: Distribution) -> str | None:
    """Why a rank could not read the cache; None where all could.  All ranks ask together."""
    mine = next((one.failure for one in readers if one.failure is not None), None)
    if not distribution.agree(mine is not None):
        return None
    return next(each for each in distribution.gather(mine) if each is not None)
