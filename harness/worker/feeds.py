"""Data sets turned into batches, for the loop, the validation and the test."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from harness.data.augment import Augmenter
from harness.data.balance import class_weights
from harness.data.corrupt import CorruptRecorder
from harness.data.lanes import check_replicas, lane_count
from harness.data.order import Order
from harness.data.pipeline import Feed
from harness.deploy.evaluate import Evaluator
from harness.distribute.base import Distribution
from harness.runs.paths import RunPaths
from harness.spec import Spec
from harness.worker.datasets import Datasets, Examples


class Feeds:
    """All batches of a run: the :class:`~harness.train.parts.TrainingData` of its loop.

    Raises:
        UsageError: the replicas do not share the lanes evenly.
    """

    def __init__(
        self, spec: Spec, sets: Datasets, distribution: Distribution, paths: RunPaths
    ) -> None:
        self._spec = spec
        self._distribution = distribution
        data, batch = spec.data, spec.training.batch_size
        counts = sets.counts().items()
        self._recorders = {of: make_recorder(spec, count, of, paths) for of, count in counts}
        lanes = lane_count(batch, data.lanes)
        check_replicas(lanes, distribution.replicas, batch)
        train = sets.train.index
        self.order = Order(len(train), batch, lanes, spec.training.seed, data.block, data.window)
        self.augmenter = Augmenter(data.augment, spec.training.seed)
        self.train = Feed(
            train,
            order=self.order,
            augment=self.augmenter,
            class_weights=class_weights(train) if data.balance == "class_weights" else None,
            recorder=self._recorders["train"],
            load=sets.train.load,
        )
        self.validation = self._plain(sets.validation, "validation")
        self.test = self._plain(sets.test, "test")

    @property
    def steps_per_epoch(self) -> int:
        """Global batches an epoch."""
        return self.train.steps_per_epoch

    def training(self, epoch: int, step: int, image_size: int) -> Any:
        """See the protocol."""
        place = self._distribution.topology
        batches = self.train.training(epoch, step, image_size, place.rank, place.size)
        return self._distribution.share(batches)

    def check(self) -> None:
        """See the protocol; holds every split to the limit by itself."""
        for recorder in self._recorders.values():
            recorder.check()

    @property
    def corrupt(self) -> int:
        """Examples that could not be read so far, over all splits and attempts."""
        return sum(map(len, self._recorders.values()))

    def evaluate(
        self, feed: Feed, evaluator: Evaluator, between: Callable[[], None]
    ) -> dict[str, float]:
        """Figures over one pass of ``feed``; calls ``between`` about once a second."""

        def check() -> None:
            self.check()
            between()

        return one_pass(self._spec, feed, evaluator, check)

    def _plain(self, examples: Examples | None, split: str) -> Feed | None:
        if examples is None:
            return None
        return Feed(examples.index, recorder=self._recorders[split], load=examples.load)


def make_recorder(spec: Spec, total: int, split: str, paths: RunPaths | None) -> CorruptRecorder:
    """The account of unreadable examples; kept in memory only without ``paths``."""
    corrupt = spec.data.corrupt
    return CorruptRecorder(
        total,
        corrupt.policy,
        corrupt.limit.value / 100,
        # Names may identify people: they are not written for sensitive data.
        paths.corrupt if paths is not None and not spec.data.sensitive else None,
        split=split,
        hide_names=spec.data.sensitive,
    )


def one_pass(
    spec: Spec, feed: Feed, evaluator: Evaluator, between: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Figures of ``evaluator`` over all examples of ``feed``, each counted once."""
    batch = spec.training.batch_size
    batches = math.ceil(len(feed.index) / batch)
    return evaluator.run(feed.evaluation(batch, spec.data.image_size), batches, between)
