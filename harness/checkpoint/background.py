"""Checkpoints written while training goes on, in a thread of their own."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.checkpoint.snapshot import Restored, Snapshot
from harness.checkpoint.store import Store

if TYPE_CHECKING:
    import numpy as np


def _nothing() -> None:
    """There is nothing to do."""


class Background:
    """Commits one snapshot after the other to a store; the loop waits only for the one before.

    Nothing of it is lost: what a commit raises is raised by the next call of any method here, in
    the thread that calls, and no later than by :meth:`settle`.

    Args:
        store: used by nobody else while a commit is under way.
        log: told of an error that nobody is there for any more.
        took: told the seconds of each commit, in the thread that writes.
    """

    def __init__(
        self,
        store: Store,
        log: Callable[[str], None],
        took: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._store, self._log, self._took = store, log, took
        self._thread: threading.Thread | None = None
        self._then: Callable[[], None] = _nothing
        self._error: BaseException | None = None

    def save(
        self,
        step: int,
        tensors: Mapping[str, np.ndarray],
        state: dict[str, Any],
        *,
        metrics: Mapping[str, float] | None = None,
        keep_steps: Iterable[int] = (),
        then: Callable[[], None] = _nothing,
    ) -> None:
        """Begins to commit a checkpoint; see :meth:`Store.save`.

        Args:
            tensors: changed by nobody from now on.
            then: called once the checkpoint is there, by a later call of a method here.

        Raises:
            StorageError: the commit before has failed; nothing is begun then.
        """
        self.settle()
        # Callbacks give what they hold and go on with it; arrays are the caller's copies.
        own, figures = copy.deepcopy(state), dict(metrics or {})
        snapshot = Snapshot(step, tensors, own, figures, frozenset(keep_steps))
        self._then = then
        # A process that is told to go does not wait for it: what is half written is swept later.
        self._thread = threading.Thread(
            target=self._commit, args=(snapshot,), name="harness-save", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raises what a commit that has ended has raised; does not wait for one."""
        if self._thread is not None and not self._thread.is_alive():
            self.settle()

    def settle(self) -> None:
        """Returns once everything is committed.

        Raises:
            StorageError, TypeError, ValueError: see :meth:`Store.save`.
        """
        if self._thread is None:
            return
        self._thread.join()  # an interrupt in its midst leaves it to be waited for again
        self._thread = None
        then, self._then = self._then, _nothing
        error, self._error = self._error, None
        if error is not None:
            raise error
        then()

    def restore(self, step: int | None = None) -> Restored | None:
        """See :meth:`Store.restore`; waits for a commit under way."""
        self.settle()
        return self._store.restore(step)

    def close(self) -> None:
        """Waits for a commit under way, of a loop that has ended otherwise; raises nothing."""
        try:
            self.settle()
        except Exception as error:
            self._log(f"the last checkpoint could not be written: {error}")

    def _commit(self, snapshot: Snapshot) -> None:
        began = time.monotonic()
        try:
            self._store.commit(snapshot)
            self._took(time.monotonic() - began)
        # Whatever it is, it is raised where somebody waits for it.
        except BaseException as error:
            self._error = error
