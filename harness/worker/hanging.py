"""What is done about a run whose training stands still, on rank 0 and on every other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from harness.errors import ExitCode
from harness.worker.ranks import Ranks
from harness.worker.watchdog import (
    Stand,
    gather_stands,
    standing,
    verdict,
    wait_for_end,
    write_stacks,
)

_WHERE, _HERE = "where", "here"


class Hanging:
    """Gives :class:`~harness.worker.watchdog.Watchdog` what it calls.

    Args:
        account: rank 0 writes down how the attempt ended, and gets the code to leave by.
        ends: whether this process may be ended; else it only says where it stands.
    """

    def __init__(
        self,
        ranks: Ranks,
        account: Callable[[str], int] | None,
        say: Callable[[str], None],
        ends: bool,
    ) -> None:
        self._ranks, self._account, self._say, self._ends = ranks, account, say, ends
        self._stands: dict[int, Stand] = {}
        if ranks.first:
            ranks.on(_HERE, self._heard)
        else:
            ranks.on(_WHERE, self._asked)

    def __call__(self, since_s: float) -> None:
        """Nothing was done for so long."""
        self._say(f"harness: no step for {since_s:.0f} s; where its threads stand:")
        write_stacks()
        if self._account is not None:
            self._lead(since_s, self._account)
            return
        wait_for_end()
        self._say("harness: leaves, since rank 0 hangs too")
        sys.stderr.flush()
        os._exit(int(ExitCode.STOPPED))

    def _lead(self, since_s: float, account: Callable[[str], int]) -> None:
        ranks = self._ranks
        names = [one.name for one in ranks.members] or ["rank 0"]
        own = standing(ranks.rhythm)
        ask = lambda: ranks.announce(_WHERE, None)  # noqa: E731
        stands = gather_stands(ask, own, self._stands, len(names)) if ranks.members else {0: own}
        message = f"no step for {since_s:.0f} s: {verdict(names, stands)}"
        if self._ends:
            ranks.give_up(message, account)
        else:
            self._say(f"harness: {message}")

    def _asked(self, rank: int, data: object) -> None:
        write_stacks()
        self._ranks.tell(_HERE, list(standing(self._ranks.rhythm)))

    def _heard(self, rank: int, data: tuple[int, str, bool]) -> None:
        self._stands[rank] = Stand(*data)
