"""The one interface behind which devices, nodes and their libraries stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

    from harness.distribute.topology import Topology


class Distribution(Protocol):
    """How one training step is spread over replicas and brought together again.

    A *replica* is one device that computes; each takes consecutive rows of the global batch, in
    the order of the replicas.  ``reduce_sum`` and ``replica`` are called inside ``run``; all else
    outside.  What the ranks do together on the host (``agree`` to ``copies``) is described at
    :class:`~harness.distribute.together.Together`.
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

    def run_each(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As :meth:`run`, but returns the results of all local replicas, for another run."""
        ...

    def run_sums(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As :meth:`run`, but returns the sum of all local replicas' results."""
        ...

    def replica(self) -> tf.Tensor:
        """int32 scalar: index of the calling replica among all ``replicas``."""
        ...

    def reduce_sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Each tensor summed over all replicas; every replica gets the same bits.

        Differentiable: the gradient of a sum over replicas is the sum of their gradients.
        """
        ...

    def sum_ranks(self, values: np.ndarray) -> np.ndarray:
        """A vector (int32, int64 or float64) summed over all ranks; each gets the same bits."""
        ...

    def agree(self, flag: bool) -> bool:
        """True on every rank if ``flag`` is true on any."""
        ...

    def first(self, number: int) -> int:
        """The number that rank 0 has."""
        ...

    def barrier(self) -> None:
        """Returns when every rank has come here."""
        ...

    def tell_all(self, value: Any) -> Any:
        """The JSON value that rank 0 has."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """The JSON values of all ranks, by rank."""
        ...

    def share_arrays(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The arrays of rank 0, bit by bit."""
        ...

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Gives every rank the values of rank 0, bit by bit."""
        ...

    def copies(self, variable: tf.Variable) -> list[np.ndarray]:
        """The values of ``variable`` on every device of this process."""
        ...
