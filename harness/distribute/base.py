"""The one interface behind which devices, nodes and their libraries stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tensorflow as tf

    from harness.distribute.topology import Topology


class Distribution(Protocol):
    """How one training step is spread over replicas and brought together again.

    A *replica* is one device that computes; each takes ``rows`` consecutive rows of the
    global batch.  ``reduce_sum`` and ``replica`` are called inside ``run``; all else outside.
    """

    name: str
    topology: Topology
    replicas: int
    """Replicas in all ranks together."""
    local_replicas: int
    """Replicas that this process feeds."""

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which variables are made."""
        ...

    def share(self, dataset: tf.data.Dataset) -> Any:
        """What ``iter`` makes pieces for :meth:`run` of.

        Args:
            dataset: batches (dicts of tensors of static shape [b, ...]) with the rows of all
                local replicas, one after the other.
        """
        ...

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls ``function`` once on every local replica; returns the first one's result."""
        ...

    def replica(self) -> tf.Tensor:
        """int32 scalar: index of the calling replica among all ``replicas``."""
        ...

    def reduce_sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Each tensor summed over all replicas; every replica gets the same bits."""
        ...

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Gives every rank the values of rank 0."""
        ...

    def barrier(self) -> None:
        """Returns when every rank has come here."""
        ...

    def agree(self, flag: bool) -> bool:
        """True on every rank if ``flag`` is true on any."""
        ...


def global_sums(distribution: Distribution, sums: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The metric sums of one replica, summed over all; called inside ``run``."""
    return dict(zip(sums, distribution.reduce_sum(list(sums.values())), strict=True))
