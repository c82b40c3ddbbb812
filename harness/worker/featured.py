"""Which data sets a phase reads as features from the cache, and bringing them there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.data.content_feed import ContentFeed
from harness.data.feature_feed import FeatureFeed
from harness.data.feature_read import FeatureReader, Room
from harness.data.feature_store import Entry
from harness.data.known import known_of, united
from harness.data.order import Order
from harness.deploy.evaluate import Evaluator
from harness.errors import SpecError
from harness.model.assemble import Assembled
from harness.runs.memory import memory_left
from harness.runs.storage import readable_bytes
from harness.spec import Spec
from harness.train.feature_again import Again, failure_of
from harness.train.feature_cache import Extraction, NotKept, Source
from harness.worker.datasets import Examples
from harness.worker.feature_choice import (
    TEST,
    TRAIN,
    VALIDATION,
    FeatureChoice,
    Index,
    NotCached,
    Wanted,
    noted,
)

if TYPE_CHECKING:
    from harness.worker.feeds import Feeds

Between = Callable[[], None]

_OF_MEMORY = 2
"""Half of the memory that is left is for the training, which has yet to take what it needs."""
_MOST = 256
"""Examples that a device computes at once, where its part of a batch is not less."""


class _Ready(NamedTuple):
    """Features that are there, and what their positions are counted in."""

    readers: list[FeatureReader]
    source: Index


class Featured:
    """The features of a run's data sets.  All ranks call everything here in the same order.

    Args:
        feeds: of the run, which has its features from this one.
        root: the cache root.
        say: tells the user something, in a line; on rank 0 alone.
        note: takes what ``run.json`` is to say of each split.
        not_exact: hears why this run does not repeat an undisturbed one to the last bit.
        before: what ``run.json`` said of each split when the last attempt ended.
    """

    def __init__(
        self,
        spec: Spec,
        feeds: Feeds,
        model: Assembled,
        root: Path,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        note: Callable[[dict[str, Any]], None],
        not_exact: Callable[[list[str]], None],
        before: Mapping[str, Any],
    ) -> None:
        self._spec, self._feeds, self._environment = spec, feeds, environment
        self._say, self._note, self._told = say, note, set[str]()
        self._distribution = feeds.distribution
        self._features = model.features
        self._extraction = Extraction(model.features, self._distribution, say)
        self._choice = FeatureChoice(spec, model, self._distribution, root, environment)
        self._ready: dict[str, _Ready] = {}
        self._made: dict[tuple[str, Order | None], FeatureFeed] = {}
        self._size: int | None = None
        self._room, self._goes_on = Room(0), False
        self._entered, self._training, self._moved = False, True, False
        self._under_way: list[Entry] = []
        self._before, self._not_exact = before, not_exact
        self._keys: dict[tuple[int, str], list[str]] = {}
        self._noted: dict[str, Any] = dict(before)
        self._lost = {split: one["lost"] for split, one in before.items() if "lost" in one}
        self.evaluator = Evaluator(model.from_features, model.task, self._distribution)

    def enter(self, phase: int, between: Between, *, goes_on: bool = False) -> None:
        """Brings what a phase reads into the cache, where that is wanted and pays.

        Args:
            between: called about once a second by all ranks together.
            goes_on: the phase was begun by an attempt before.

        Raises:
            SpecError: the spec asks for it and it cannot be had.
        """
        self._ready, self._made, self._size = {}, {}, self._spec.image_size_of(phase)
        self._room, self._goes_on, self._entered = Room(self._memory()), goes_on, True
        self._moved = False
        if not self._choice.possible(phase):
            return
        splits, changes = self._feeds.examples, self._feeds.augmenter.changes
        train, validation = splits[TRAIN].index, splits.get(VALIDATION)
        together = None if validation is None or changes else united(train, validation.index)
        if together is not None:
            self._bring(Wanted((TRAIN, VALIDATION), together), phase, between)
            return
        self._bring(Wanted((TRAIN,), train, self._choice.copies(changes)), phase, between)
        if validation is not None:
            self._bring(Wanted((VALIDATION,), validation.index), phase, between)

    def training(self, order: Order) -> FeatureFeed | None:
        """Batches of the training examples in an order; None where they are not cached."""
        return self._feed(TRAIN, order)

    def evaluation(self, split: str, phase: int, between: Between) -> FeatureFeed | None:
        """One pass over a split; None where it is not cached.

        The test set is brought into the cache by its first pass, as that takes no longer, where
        the training examples are there too.
        """
        if split == TEST:
            self._training = False
            if not self._entered:  # the run goes on behind its last step
                self.enter(phase, between)
        same = self._spec.image_size_of(phase) == self._size
        if not same or not self._choice.possible(phase):
            return None
        if split == TEST and split not in self._ready and TRAIN in self._ready:
            self._bring(Wanted((TEST,), self._feeds.examples[TEST].index), phase, between)
        return self._feed(split, None)

    def moved(self) -> bool:
        """Whether batches of training come from elsewhere since this was last asked."""
        self.settle()
        moved, self._moved = self._moved, False
        return moved

    def settle(self) -> None:
        """Leaves the cache for the rest of the phase where a rank could not read it, and nobody
        has asked for it by name: the backbone goes on by itself."""
        if self._choice.asked is not None or not self._ready:
            return
        readers = (reader for ready in self._ready.values() for reader in ready.readers)
        reason = failure_of(readers, self._distribution)
        if reason is None:
            return
        self._say(
            f"feature cache: it cannot be read any more ({reason}); this phase goes on from the "
            "backbone itself"
        )
        self._lost |= dict.fromkeys(self._ready, reason)
        self._noted |= {split: self._noted[split] | {"lost": reason} for split in self._ready}
        self._ready, self._made, self._moved = {}, {}, True
        self._not_exact(["features could not be read any more, and were computed anew"])
        self._note(self._noted)

    def check(self) -> None:
        """Notes that the entries are in use."""
        for ready in self._ready.values():
            for reader in ready.readers:
                reader.entry.touch()
        for entry in self._under_way:
            entry.touch()

    def _bring(self, wanted: Wanted, phase: int, between: Between) -> None:
        def touched() -> None:
            self.check()
            between()

        try:
            self._under_way = entries = self._choice.entries(wanted, phase)
            computed = [
                self._complete(entry, wanted, copy, phase, touched)
                for entry, copy in zip(entries, wanted.copies, strict=True)
            ]
        except (NotCached, NotKept) as reason:
            self._not_cached(wanted, str(reason))
            entries, computed = [], []
            for split in wanted.splits:
                self._noted.pop(split, None)
        self._under_way = []
        self._compare(wanted, phase, [entry.key for entry in entries], any(computed))
        if entries:
            again = None
            if self._choice.asked is None:
                again = Again(self._features, partial(self._source, wanted, None, phase))
            readers = [FeatureReader(entry, self._room, again) for entry in entries]
            self._ready |= dict.fromkeys(wanted.splits, _Ready(readers, wanted.source))
            self._noted |= {s: noted(entries, self._lost.get(s)) for s in wanted.splits}
        self._note(self._noted)

    def _compare(self, wanted: Wanted, phase: int, keys: list[str], computed: bool) -> None:
        """Says that a phase which goes on does not read what it read before."""
        for split in wanted.splits:
            before = self._keys.get((phase, split), self._before.get(split, {}).get("keys", []))
            self._keys[phase, split] = keys
            if not self._goes_on:
                continue
            if before != keys or (keys and computed):
                how = "are computed anew" if keys else "are not read from the cache any more"
                self._not_exact([f"features of the {split} examples {how}"])

    def _not_cached(self, wanted: Wanted, reason: str) -> None:
        what = wanted.words
        # Once the training is done nothing but time is lost.
        if self._choice.asked is not None and self._training:
            raise SpecError(
                f"features of the {what} cannot be cached",
                got=reason,
                allowed="training.feature_cache: auto, which caches what can be",
                action="change what stands in the way, or set training.feature_cache: auto",
                path="training.feature_cache",
            )
        line = f"feature cache: not used for the {what}: {reason}"
        if line not in self._told:
            self._told.add(line)
            self._say(line)

    # Doing it.

    def _complete(
        self,
        entry: Entry,
        wanted: Wanted,
        copy: int | None,
        phase: int,
        between: Between,
    ) -> bool:
        """Whether anything had to be computed."""
        size, source = readable_bytes(entry.layout.bytes), self._source(wanted, copy, phase)
        of = "" if copy is None else f" (changed copy {copy + 1} of {len(wanted.copies)})"
        what = f"{wanted.words}{of}"
        began, is_whole = time.monotonic(), not self._extraction.lacks(entry)
        if not is_whole:
            self._say(f"feature cache: computes the features of the {what} once ({size})")
        computed = self._extraction.complete(entry, source, f"the {what}", between)
        done = "found" if is_whole else f"computed in {time.monotonic() - began:.0f} s"
        self._say(f"feature cache: features of the {what} {done}: {entry.folder}")
        return computed

    def _source(self, wanted: Wanted, copy: int | None, phase: int) -> Source:
        batch = self._spec.batch_size_of(phase) // self._distribution.replicas
        return Source(
            self._content(Examples(wanted.source, None), copy),
            known_of(wanted.source, wanted.source),
            min(_MOST, batch),
            self._spec.image_size_of(phase),
            copy or 0,
        )

    def _content(self, examples: Examples, copy: int | None = None) -> ContentFeed:
        feeds = self._feeds
        augment = None if copy is None else feeds.augmenter
        return ContentFeed(
            examples.index, load=examples.load, content=feeds.content, augment=augment
        )

    def _feed(self, split: str, order: Order | None) -> FeatureFeed | None:
        """Batches of a split, made once: of an order of training, or for one pass."""
        ready, feeds = self._ready.get(split), self._feeds
        if ready is not None and (split, order) not in self._made:
            examples = feeds.examples[split]
            self._made[split, order] = FeatureFeed(
                known_of(examples.index, ready.source),
                ready.readers,
                examples=len(examples.index),
                blame=self._blame(examples),
                recorder=feeds.recorder(split),
                order=order,
                class_weights=None if order is None else feeds.class_weights,
                resampling=None if order is None else feeds.resampling,
            )
        return self._made.get((split, order))

    def _blame(self, examples: Examples) -> Callable[[int, str], tuple[str, str]]:
        """What names a corrupt example; made when the first one is met."""
        made: list[ContentFeed] = []

        def blame(row: int, name: str) -> tuple[str, str]:
            if not made:
                made.append(self._content(examples))
            return made[0].blame(row, name)

        return blame

    def _memory(self) -> int:
        processes = self._distribution.topology.local_size
        return memory_left(self._environment, processes) // _OF_MEMORY // processes
