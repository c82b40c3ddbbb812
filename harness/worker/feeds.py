"""Data sets turned into batches, for the loop, the validation and the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.data.balance import class_weights
from harness.data.cache import DecodedCache
from harness.data.content import content_of_spec
from harness.data.corrupt import CorruptRecorder
from harness.data.index import ExampleIndex
from harness.data.lanes import check_replicas, lane_count, reading
from harness.data.mixing import mixing_of
from harness.data.order import Order
from harness.data.packed_examples import PackedExamples
from harness.data.pipeline import Feed
from harness.data.resampling import Resampling, resampling_of
from harness.deploy.evaluate import Evaluator
from harness.distribute.base import Distribution
from harness.distribute.topology import Topology
from harness.runs.paths import RunPaths
from harness.spec import Spec
from harness.worker.cached import Caches
from harness.worker.datasets import Datasets, Examples
from harness.worker.ranks import Ranks
from harness.worker.recorders import recorders_of
from harness.worker.target import TargetBatches

if TYPE_CHECKING:
    from harness.worker.featured import Featured


class Feeds:
    """All batches of a run: the :class:`~harness.train.parts.TrainingData` of its loop.

    Raises:
        UsageError: the replicas do not share the lanes evenly.
    """

    def __init__(
        self,
        spec: Spec,
        sets: Datasets,
        distribution: Distribution,
        paths: RunPaths,
        ranks: Ranks,
        kept: Mapping[str, int] | None = None,
        caches: Caches | None = None,
    ) -> None:
        """
        Args:
            kept: ``block`` and ``window`` of an order that the run has begun to follow.
            caches: keep decoded examples; None keeps none.
        """
        self._caches = caches
        self._spec = spec
        self.distribution = distribution
        self.between: Callable[[], None] = lambda: None
        data = spec.data
        self.examples = dict(sets.named())
        self.features: Featured | None = None
        """Set once the model is there."""
        self._recorders = recorders_of(spec, sets, paths, ranks)
        sizes = spec.batch_sizes()
        # What is shuffled together is held in memory: as much as with the most lanes of a phase.
        parts = spec.training.accumulate
        lanes = max(lane_count(size * parts, data.lanes) for size in sizes.values())
        self._set = sets.train
        self.resampling = _resampling(spec, sets.train.index)
        self.class_weights = _weights(spec, sets.train.index)
        self._blocks = _reading(spec, sets.train.index, lanes, kept or {})
        self.content = content_of_spec(spec)
        self.augmenter = self.content.augmenter(data.augment, spec.training.seed)
        self._orders = {size: self._order(field, size) for field, size in sizes.items()}
        self.order = self._orders[spec.batch_size_of(0)]
        self.train = self._training(self.order)
        self.validation = self._plain(sets.validation, "validation")
        self.test = self._plain(sets.test, "test")
        self.target = self._plain(sets.target, "target")
        self._beside = self._target_batches(sets.target) if spec.trains_on_target else None

    def steps_per_epoch(self, batch_size: int) -> int:
        """Steps of an epoch with global batches of so many examples."""
        return self._orders[batch_size].steps_per_epoch

    def training(
        self, epoch: int, step: int, image_size: int | None, batch_size: int | None = None
    ) -> Any:
        """See the protocol."""
        place, parts = self.distribution.topology, self._spec.training.accumulate
        here = self.distribution.local_replicas
        order = self._orders[batch_size or self._spec.batch_size_of(0)]
        cached = self.features.training(order) if self.features is not None else None
        whose, asked = (place.rank, place.size), {"parts": parts, "devices": here}
        if cached is not None:
            return self.distribution.share(cached.training(epoch, step, *whose, **asked))
        if self.train.order is not order:  # two would read ahead, and hold their memory
            self.train = self._training(order)
        batches = self.train.training(epoch, step, image_size, *whose, **asked)
        if self._beside is not None:
            batches = self._beside.beside(batches, order, epoch, step, image_size, place, here)
        return self.distribution.share(batches)

    def enter(self, phase: int, between: Callable[[], None], *, goes_on: bool = False) -> None:
        """See the protocol."""
        if self.features is not None:
            self.features.enter(phase, between, goes_on=goes_on)

    def moved(self) -> bool:
        """See the protocol."""
        return self.features is not None and self.features.moved()

    def check(self) -> None:
        """See the protocol; holds every split to the limit by itself.  Calls ``between`` too."""
        self.between()
        if self.features is not None:
            self.features.check()
        if self._caches is not None:
            self._caches.check()
        for recorder in self._recorders.values():
            recorder.check()

    @property
    def corrupt(self) -> int:
        """Examples that could not be read so far, over all splits and attempts."""
        return sum(map(len, self._recorders.values()))

    def recorder(self, split: str) -> CorruptRecorder:
        """What hears of the corrupt examples of a split."""
        return self._recorders[split]

    def evaluate(
        self,
        feed: Feed,
        evaluator: Evaluator,
        between: Callable[[], None],
        phase: int,
    ) -> dict[str, float]:
        """Figures over one pass of ``feed``, with the sizes of a phase; calls ``between`` about
        once a second."""

        def check() -> None:
            self.check()
            between()

        place, features = self.distribution.topology, self.features
        split = "test" if feed is self.test else "validation"
        cached = features.evaluation(split, phase, check) if features is not None else None
        if features is not None and cached is not None:
            batch = self._spec.batch_size_of(phase)
            batches = math.ceil(len(feed.index) / batch)
            rows = cached.evaluation(batch, place.rank, place.size)
            figures = features.evaluator.run(rows, batches, check)
            features.settle()
            return figures
        return one_pass(self._spec, feed, evaluator, phase, check, place)

    def lanes_of(self, batch_size: int) -> int:
        """Lanes of the order of batches of one size."""
        return self._orders[batch_size].lanes

    def _order(self, field: str, batch_size: int) -> Order:
        """The order of batches of one size; blocks and windows are those of the run."""
        spec, parts = self._spec, self._spec.training.accumulate
        batch = batch_size * parts
        lanes = lane_count(batch, spec.data.lanes)
        check_replicas(lanes, self.distribution.replicas, batch, parts, field)
        chosen = self._set.index if self.resampling is None else self.resampling
        return Order(len(chosen), batch, lanes, spec.training.seed, *self._blocks)

    def _training(self, order: Order) -> Feed:
        data, train = self._spec.data, self._set.index
        return Feed(
            train,
            order=order,
            augment=self.augmenter,
            mixing=mixing_of(data.augment, self._spec.training.seed),
            class_weights=self.class_weights,
            recorder=self._recorders["train"],
            load=self._set.load,
            content=self.content,
            resampling=self.resampling,
            cache=self._cache("train"),
        )

    def _plain(self, examples: Examples | None, split: str) -> Feed | None:
        if examples is None:
            return None
        return Feed(
            examples.index,
            recorder=self._recorders[split],
            load=examples.load,
            content=self.content,
            cache=self._cache(split),
        )

    def _target_batches(self, target: Examples | None) -> TargetBatches:
        assert target is not None, "a spec that adapts names one"

        def make(order: Order) -> Feed:
            return Feed(
                target.index,
                order=order,
                augment=self.augmenter,
                recorder=self._recorders["target"],
                load=target.load,
                content=self.content,
                cache=self._cache("target"),
            )

        return TargetBatches(self._spec, make, target.index.example_bytes, len(target.index))

    def _cache(self, split: str) -> DecodedCache | None:
        return self._caches.of(split) if self._caches is not None else None


def _weights(spec: Spec, train: ExampleIndex | PackedExamples) -> Sequence[float] | None:
    """By class, where the spec wants such."""
    wanted = spec.data.balance == "class_weights"
    return class_weights([*train.counts().values()]) if wanted else None


def _resampling(spec: Spec, train: ExampleIndex | PackedExamples) -> Resampling | None:
    labels = train.labels if isinstance(train, ExampleIndex) else None
    return resampling_of(spec.data.balance, labels, spec.training.seed)


def _reading(
    spec: Spec, train: ExampleIndex | PackedExamples, lanes: int, kept: Mapping[str, int]
) -> tuple[int, int]:
    block, window = reading(lanes, train.example_bytes)
    return (
        spec.data.block or kept.get("block") or block,
        spec.data.window or kept.get("window") or window,
    )


def one_pass(
    spec: Spec,
    feed: Feed,
    evaluator: Evaluator,
    phase: int,
    between: Callable[[], None] = lambda: None,
    place: Topology | None = None,
) -> dict[str, float]:
    """Figures of ``evaluator`` over all examples of ``feed``, each counted once.

    Args:
        phase: whose sizes of pictures and batches are taken.
        place: this rank among those that share the examples; None for one process.
    """
    place = place or Topology()
    batch = spec.batch_size_of(phase)
    batches = math.ceil(len(feed.index) / batch)
    rows = feed.evaluation(batch, spec.image_size_of(phase), place.rank, place.size)
    return evaluator.run(rows, batches, between)


def examples_per_step(spec: Spec) -> int:
    """Examples of one update of the first phase: the batches that are accumulated for it."""
    return spec.batch_size_of(0) * spec.training.accumulate
