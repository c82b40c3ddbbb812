"""One of several ranks as a process of its own: ``python ranks_program.py ACTION``.

Prints a line of JSON for everything that it gets or is told.  Rank 0 keeps an account, as an
attempt would, which it prints too.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
from functools import partial
from typing import Any

from harness.distribute.members import Lost
from harness.distribute.topology import Topology
from harness.errors import DataError, HarnessError
from harness.worker.ranks import Ranks


def tell(**facts: Any) -> None:
    # One write a line: two threads write here.
    os.write(1, json.dumps(facts).encode() + b"\n")


def account(lost: Lost) -> int:
    tell(account=[lost.rank, lost.message, lost.exit_code])
    return 9


def talk(ranks: Ranks) -> None:
    """Every collective, more than once, with names that come again."""
    mine = ranks.topology.rank
    for turn in range(3):
        tell(first=ranks.from_first("what", partial(dict, turn=turn, of=mine)))
        tell(gathered=ranks.gather("what", {"ü": mine, "turn": turn}))
        ranks.barrier("all")
    tell(long=sum(map(len, ranks.gather("long", str(mine) * 50_000))))
    ranks.all_done()
    ranks.dismiss()
    tell(left=True)


def fail(ranks: Ranks) -> None:
    """The last rank meets an error of its own; the others wait for it, in vain."""
    if ranks.topology.rank < ranks.topology.size - 1:
        tell(gathered=ranks.gather("never", 1))
    ranks.failed(DataError("the disk is gone"))
    tell(noted=ranks.noted)


def vanish(ranks: Ranks) -> None:
    """The last rank ends without a word."""
    if ranks.topology.rank < ranks.topology.size - 1:
        ranks.gather("never", 1)
    os._exit(7)


def all_fail(ranks: Ranks) -> None:
    """All meet one error; rank 0 accounts for it itself, not for the loss of the others."""
    if ranks.first:
        ranks.ending()
        tell(own=True)
        ranks.break_up("the data is broken", 4)
        ranks.break_up("a second time", 5)
        return
    ranks.failed(DataError("the data is broken"))
    tell(noted=ranks.noted)


def refuse(ranks: Ranks) -> None:
    """Rank 0 cannot make what all need."""
    try:
        ranks.from_first("run", broken)
    except HarnessError as error:
        tell(refused=str(error))
        ranks.break_up(str(error), int(error.exit_code))
        raise SystemExit(int(error.exit_code)) from None
    tell(went_on=True)


def broken() -> str:
    raise DataError("there is no such folder")


def stop(ranks: Ranks) -> None:
    """Signals of the others come to rank 0."""
    heard: list[list[Any]] = []
    all_heard = threading.Event()

    def asked(name: str, hurries: bool) -> None:
        heard.append([name, hurries])
        if len(heard) == ranks.topology.size - 1:
            all_heard.set()

    ranks.on_stop(asked)
    if ranks.first:
        assert all_heard.wait(60)
        tell(heard=heard)
    else:
        ranks.forward_stop("SIGTERM", ranks.topology.rank % 2 == 0)
    ranks.all_done()
    ranks.dismiss()


def stand_still(ranks: Ranks) -> None:
    """Rank 0 goes from each answer into a call that keeps the interpreter, until others have it."""
    fifo = os.environ["FIFO"]
    for turn in range(20):
        mine = ranks.gather("port", turn) if turn % 2 else ranks.from_first("port", lambda: 1)
        if ranks.first:
            # Opening it takes until another opens it, and of this library keeps all threads out.
            os.close(ctypes.PyDLL(None).open(fifo.encode(), os.O_RDONLY))
        else:
            os.close(os.open(fifo, os.O_WRONLY))
        tell(had=mine)
        ranks.barrier("turn")
    ranks.all_done()
    ranks.dismiss()


_ALL = (talk, fail, vanish, all_fail, refuse, stop, stand_still)
ACTIONS = {action.__name__: action for action in _ALL}


def main(action: str) -> None:
    ranks = Ranks(Topology.from_environment(os.environ), lambda text: tell(said=text))
    if ranks.first:
        ranks.keep_account(account)
    if action == "turn_away":
        if ranks.first:
            ranks.turn_away(os.environ, None, DataError("this run is locked"))
            raise SystemExit(4)
        ranks.meet(os.environ, None)
        ranks.barrier("never")
    ranks.meet(os.environ, None)
    ranks.meet(os.environ, None)  # does nothing
    tell(members=[member.rank for member in ranks.members])
    ACTIONS[action](ranks)


if __name__ == "__main__":
    main(sys.argv[1])
