"""Whether the features of some splits are cached, and as what."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.cache_room import room_for
from harness.data.feature_store import ENTRY, Entry, Layout, sweep
from harness.data.index import ExampleIndex
from harness.data.known import known_of
from harness.data.packed_examples import PackedExamples
from harness.distribute.base import Distribution
from harness.errors import StorageError
from harness.model.assemble import Assembled
from harness.runs.storage import readable_bytes
from harness.spec import Spec
from harness.spec.feature_cache import why_not_training
from harness.spec.models_training import FeatureCache
from harness.worker.feature_keys import data_key, facts_of, feature_shape

Index = ExampleIndex | PackedExamples
TRAIN, VALIDATION, TEST = "train", "validation", "test"
_SHOWS_S = 10.0
"""How long a folder made by rank 0 may take to show on the other nodes."""


@dataclass(frozen=True)
class Wanted:
    """Splits that have their features from the same entries: one, or one for each copy."""

    splits: tuple[str, ...]
    source: Index
    copies: tuple[int | None, ...] = (None,)

    @property
    def words(self) -> str:
        """For the user."""
        return f"{' and '.join(self.splits)} examples"


class NotCached(Exception):
    """Why features are not cached, in words."""


class FeatureChoice:
    """Decides for one run; all ranks call :meth:`entries` in the same order.

    Args:
        root: the cache root.
    """

    def __init__(
        self,
        spec: Spec,
        model: Assembled,
        distribution: Distribution,
        root: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._spec, self._model, self._distribution = spec, model, distribution
        self._root, self._environment = root, environment

    @property
    def asked(self) -> FeatureCache | None:
        """What the spec asks for by name; None where the harness chooses."""
        wanted = self._spec.training.feature_cache
        return wanted if isinstance(wanted, FeatureCache) else None

    def possible(self, phase: int) -> bool:
        """Whether a phase may read features at all: its backbone is what its digest says, and
        nothing compares its examples with those of a target, or changes it at the end."""
        spec = self._spec
        is_off = spec.training.feature_cache == "off" or spec.adaptation is not None
        return not is_off and self._model.keeps_backbone(phase)

    def copies(self, changes: bool) -> tuple[int | None, ...]:
        """Which copies of the training examples are computed; none where that is not asked for.

        Args:
            changes: augmentation changes examples.
        """
        if not changes:
            return (None,)
        return tuple(range(self.asked.copies)) if self.asked is not None else ()

    def entries(self, wanted: Wanted, phase: int) -> list[Entry]:
        """The entries of splits in a phase; they are made, and room for what they lack.

        Raises:
            NotCached: there are to be none.
        """
        entries = self._entries(wanted, self._spec.image_size_of(phase))
        self._decide(wanted, entries, phase)
        return entries

    def _entries(self, wanted: Wanted, size: int | None) -> list[Entry]:
        """The entries that splits would have.

        Raises:
            NotCached: there can be none.
        """
        spec, model = self._spec, self._model
        if model.backbone.digest is None:
            raise NotCached("the backbone has no digest by which other runs could know it")
        if wanted.splits[0] == TRAIN:
            reason = why_not_training(spec.data, spec.training, changes=wanted.copies != (None,))
            if reason is not None:
                raise NotCached(reason)
        first = self._distribution.topology.is_first  # one reads for all
        data = self._distribution.tell_all(data_key(wanted.source) if first else None)
        if data is None:
            raise NotCached("a source plug-in gives them, and no digest tells what they are")
        shape = feature_shape(model, spec, size)
        if shape is None:
            raise NotCached("the backbone's features differ in size from example to example")
        dtype = self.asked.dtype if self.asked is not None else "float32"
        layout = Layout.of(known_of(wanted.source, wanted.source).positions, shape, dtype)
        facts = (facts_of(spec, model, data, size, copy) for copy in wanted.copies)
        return [Entry(self._root, each, layout) for each in facts]

    def _decide(self, wanted: Wanted, entries: list[Entry], phase: int) -> None:
        """Rank 0 decides for all; raises NotCached where it is not to be."""
        first = self._distribution.topology.is_first
        reason = self._distribution.tell_all(self._reason(wanted, entries, phase) if first else "")
        if reason:
            raise NotCached(reason)
        # Each node has to see what rank 0 has made.
        until = time.monotonic() + _SHOWS_S
        sees = self._distribution.gather([_shows(one.folder / ENTRY, until) for one in entries])
        hidden = [rank for rank, found in enumerate(sees) if not all(found)]
        if hidden:
            raise NotCached(f"rank {hidden[0]} does not see the cache {self._root} of rank 0")

    def _reason(self, wanted: Wanted, entries: list[Entry], phase: int) -> str:
        try:
            need = sum(
                entry.layout.bytes * len(entry.missing()) // entry.layout.chunks
                for entry in entries
            )
            many = wanted.splits == (TEST,) or self._passes(phase) >= 2
            if need and self.asked is None and not many:
                return "they are read once"
            for entry in entries:  # in use from now on: making room must not take them
                entry.make(private=self._spec.data.sensitive)
                sweep(entry.folder)
            lacking = room_for(self._root, need, self._environment) if need else None
        except StorageError as error:
            return str(error)
        if lacking is None:
            return ""
        return f"there is no room for {readable_bytes(need)} in {self._root}: {lacking}"

    def _passes(self, phase: int) -> int:
        """Epochs that read what this phase reads, from it on."""
        spec = self._spec
        size = spec.image_size_of(phase)
        return sum(
            each.epochs
            for at, each in enumerate(spec.training.phases)
            if at >= phase and self._model.keeps_backbone(at) and spec.image_size_of(at) == size
        )


def _shows(path: Path, until: float) -> bool:
    while not os.path.exists(path):  # noqa: PTH110 - false, too, where it may not be looked at
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def noted(entries: list[Entry], lost: str | None) -> dict[str, Any]:
    """What ``run.json`` says of a split.

    Args:
        lost: why a phase of the run has left the cache.
    """
    layout = entries[0].layout
    return {
        "keys": [entry.key for entry in entries],
        "shape": list(layout.shape),
        "dtype": layout.dtype,
        "bytes": layout.bytes * len(entries),
        **({} if lost is None else {"lost": lost}),
    }
