"""The link between all ranks of one start of a run, from before TensorFlow to its end.

It answers what the libraries that train do not: which rank never started, which one died and what
it said, and when all have ended.  Rank 0 holds a connection to every other rank; how they find one
another is in :mod:`~harness.distribute.meeting`, what a connection proves in
:mod:`~harness.distribute.wire`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from harness.distribute.first_rank import FirstRank
from harness.distribute.hearing import Handler, Hearing, Say
from harness.distribute.members import Lost, Member
from harness.distribute.other_rank import OtherRank
from harness.distribute.topology import Topology
from harness.distribute.wire import JOIN_LIMIT, encode

__all__ = ["Gang", "Lost", "Member"]


class Gang:
    """All ranks of one start, seen from one of them.

    Handlers (:meth:`on`, :meth:`on_lost`) are called on a thread of the gang's own, one at a time;
    what comes before its handler is set is kept for it.  All methods may be called from any thread.

    One that ends in order calls :meth:`leave`; one that fails :meth:`failed`.  A process that ends
    with neither is lost, and so is one that only calls :meth:`close`.
    """

    def __init__(self, topology: Topology, side: FirstRank | OtherRank, hearing: Hearing) -> None:
        self.rank, self.size = topology.rank, topology.size
        self._side, self._hearing = side, hearing

    @classmethod
    def meet(
        cls,
        topology: Topology,
        key: str,
        facts: Mapping[str, Any],
        *,
        addresses: Sequence[str],
        same: Collection[str] = (),
        wait_s: float = 300.0,
        say: Say,
    ) -> Gang:
        """Brings all ranks together; returns on each once all have come.

        Args:
            key: from :func:`~harness.distribute.meeting.meeting_key`.
            facts: what the others are to know of this rank (JSON); see :class:`Member`.
            addresses: where rank 0 may be, from
                :func:`~harness.distribute.meeting.meeting_addresses`.
            same: names of facts that must be the same on all ranks.
            wait_s: how long the ranks wait for one another.
            say: tells the user something, in one line.

        Raises:
            TypeError, ValueError: the facts are no JSON, or of over 127 kB.
            EnvironmentNotAble: ranks did not come (they are named, on all that did), ended while
                others were waited for, differ in a fact of ``same``, or claim the same rank; rank 0
                was not found, or cannot listen.
        """
        hearing = Hearing(say)
        me = Member.of(topology, socket.gethostname(), os.getpid(), facts)
        length = len(encode(me.to_json()))  # what is no JSON is an error here, not on a thread
        if length > JOIN_LIMIT - 1024:
            raise ValueError(f"facts must be shorter than {JOIN_LIMIT - 1024} bytes, were {length}")
        side: FirstRank | OtherRank
        if topology.is_first:
            side = FirstRank(topology, me, key, same, hearing)
        else:
            side = OtherRank(topology, me, key, addresses, hearing)
        try:
            side.meet(wait_s)
        except BaseException:
            side.close()
            raise
        return cls(topology, side, hearing)

    @property
    def members(self) -> tuple[Member, ...]:
        """All ranks in their order."""
        return self._side.members

    @property
    def lost(self) -> Lost | None:
        """Why the gang broke; None while it has not."""
        return self._hearing.lost

    def on(self, kind: str, handler: Handler) -> None:
        """Has ``handler(rank, data)`` called with every message of ``kind``."""
        self._side.post_hearing(lambda: self._hearing.on(kind, handler))

    def on_lost(self, handler: Callable[[Lost], None]) -> None:
        """Has ``handler`` called once when the gang breaks.

        On rank 0 that is when a rank's connection ended with no :meth:`leave`, or a rank said that
        it failed; of several in a moment, one that ended without a word is taken for the cause.
        Rank 0 then writes the run's account and calls :meth:`break_up`.  On the others it is when
        rank 0 breaks up, or has ended itself.
        """
        self._side.post_hearing(lambda: self._hearing.on_lost(handler))

    def tell(self, kind: str, data: Any) -> None:
        """Sends a message to rank 0's handler of ``kind``; from rank 0 too."""
        self._side.tell(kind, data)

    def announce(self, kind: str, data: Any) -> None:
        """Rank 0 sends a message to the handlers of ``kind`` of all others."""
        self._first().announce(kind, data)

    def flush(self) -> None:
        """Rank 0 waits until what it has announced has left this process, 10 s at most.

        To be called before anything that may keep the interpreter until another rank has come as
        far: the thread that sends could do nothing meanwhile.
        """
        self._first().flush()

    def failed(self, message: str, exit_code: int, wait_s: float = 10.0) -> bool:
        """Reports this rank's own error; returns once rank 0 has dealt with it, or in ``wait_s``.

        A launcher may end all ranks as soon as one has left, so this one stays until rank 0's
        :meth:`on_lost` handler has returned.  Its own handler is not called.

        Returns:
            Whether rank 0 has dealt with it.
        """
        return self._side.failed(message, exit_code, wait_s)

    def break_up(self, lost: Lost) -> None:
        """Rank 0 tells all others why they must leave; returns once all have heard it, or 10 s.

        May be called in the handler of :meth:`on_lost`.
        """
        self._first().break_up(lost)

    def gather_byes(self, wait_s: float = 60.0) -> tuple[Member, ...]:
        """Rank 0 waits until all others have called :meth:`leave`; gives those who have not.

        All messages that the others have told before are handled then.  Comes back early when the
        gang breaks.
        """
        return self._first().gather_byes(wait_s)

    def dismiss(self) -> None:
        """Rank 0 lets the others leave, and closes."""
        self._first().dismiss()

    def leave(self, wait_s: float = 120.0) -> Lost | None:
        """Ends in order, together with all others; gives the loss if the gang broke meanwhile.

        Rank 0, which may have something to write when all others have ended but are still there,
        calls :meth:`gather_byes` and :meth:`dismiss` itself instead.
        """
        if isinstance(self._side, OtherRank):
            return self._side.leave(wait_s)
        self._side.gather_byes(wait_s)
        lost = self.lost
        self._side.dismiss()
        return lost

    def close(self) -> None:
        """Ends the connections as they are."""
        self._side.close()

    def _first(self) -> FirstRank:
        assert isinstance(self._side, FirstRank), "only rank 0 speaks to all"
        return self._side
