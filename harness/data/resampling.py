"""Epochs with as many examples of each class, by drawing from small classes more or from large ones
less.  Free of TensorFlow.

Such an epoch is an order (:class:`harness.data.order.Order`) of places and not of examples.  Which
example stands in a place is a pure function of (seed, epoch, place), so a resume and any number of
replicas give the same, as without.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.lanes import grid_of
from harness.data.order import sorted_row
from harness.data.permute import Domain, Numbers, fold, key_of, permute
from harness.errors import SpecError

OVER, UNDER = "oversample", "undersample"
_CLASS = 3
"""Keeps these draws apart from those of the order, which has the same seed."""


class Resampling:
    """Which examples make up an epoch.

    Classes without examples take no part.  A class is gone through as a whole, in an order of its
    own for each epoch, before one of its examples comes again: with ``oversample`` each example
    stands in an epoch k or k+1 times, with ``undersample`` once or not at all, other ones in each
    epoch.

    Args:
        labels: of the examples, rows of the classes.
        kind: ``oversample`` (each class as often as the largest) or ``undersample`` (as the
            smallest).
        seed: the training seed.

    Attributes:
        each: examples of each class in an epoch.
        passes: how often a class is gone through in an epoch at most, begun ones included.
    """

    def __init__(self, labels: Sequence[int], kind: str, seed: int) -> None:
        held = np.asarray(labels, np.int64)
        counts = np.bincount(held)
        self._counts = counts[counts > 0]
        self._starts = np.cumsum(self._counts) - self._counts
        # The examples class by class; stable, so in their own order within a class.
        self._members = np.argsort(held, kind="stable")
        self.each = int(self._counts.max() if kind == OVER else self._counts.min())
        self.passes = -(-self.each // int(self._counts.min()))
        self._seed = seed
        grids = [grid_of(int(count)) for count in self._counts]
        self._grids = np.array(grids, np.int64)

    def __len__(self) -> int:
        return self.each * len(self._counts)

    def rows(self, places: Numbers, epochs: Numbers) -> tuple[Numbers, Numbers]:
        """The examples at places of the canonical order of epochs, int64 [n] both.

        Returns:
            Rows of ``labels``, and numbers in place of the epochs that differ for each repeat of
            an example too: by these its random changes are drawn.
        """
        # The canonical order of the places mixes the classes, as that of examples does.
        which, turn = np.divmod(sorted_row(places, len(self)), self.each)
        count = self._counts[which]
        number, inside = np.divmod(turn, count)
        key = fold(fold(fold(fold(key_of(self._seed), _CLASS), epochs), which), number)
        domain = Domain(count, self._grids[which, 0], self._grids[which, 1])
        rows = self._members[self._starts[which] + permute(inside, domain, key)]
        return rows, epochs * self.passes + number


def resampling_of(
    balance: str, labels: Sequence[int] | None, seed: int, where: str = "data.balance"
) -> Resampling | None:
    """The resampling that ``data.balance`` asks for; None if it asks for none.

    Args:
        labels: of the training examples; None where they are packed.

    Raises:
        SpecError: packed examples stand in blocks, which cannot be drawn from one by one.
    """
    if balance not in (OVER, UNDER):
        return None
    if labels is None:
        raise SpecError(
            "packed data are read in whole blocks, so no class can be drawn from more often",
            got=balance,
            allowed="none, class_weights; or a folder or manifest as data.train",
            action="use class_weights, which weighs the loss instead",
            path=where,
        )
    return Resampling(labels, balance, seed)
