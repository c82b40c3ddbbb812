"""This process among the ranks of a run: rank 0 keeps the account, the others go by it.

One process for all has nobody to speak with; everything here is then done at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from queue import SimpleQueue
from threading import Event
from typing import Any, TypeVar

from harness.distribute.gang import Gang
from harness.distribute.meeting import meeting_addresses, meeting_key
from harness.distribute.members import Lost, Member
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble, ExitCode, HarnessError
from harness.runs.environment import harness_version
from harness.worker.rhythm import Rhythm

_T = TypeVar("_T")
_OWN_ERROR_S = 3.0
"""How long rank 0 may take to meet an error that another rank reports: all meet most of them."""
_CAUSE_S = 5.0
_MEETING_VARIABLE = "HARNESS_MEETING_S"


class Ranks:
    """The ranks of one start of a run, from the place of this process.

    Args:
        topology: of this process.
        say: tells the user something, in a line.
    """

    def __init__(self, topology: Topology, say: Callable[[str], None]) -> None:
        self.topology = topology
        self._say = say
        self._gang: Gang | None = None
        self._answers: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._gathered: dict[str, dict[int, Any]] = {}
        self._ending = Event()
        self._broken = False
        self._kept: list[Any] = []
        self._at_end: list[Callable[[], None]] = []
        self.noted = False
        """Whether rank 0 has taken note of the error of this rank."""
        self._account: Callable[[Lost], int] | None = None
        self._asked: Callable[[str, bool], None] | None = None
        self.rhythm = Rhythm()

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.topology.is_first

    @property
    def members(self) -> tuple[Member, ...]:
        """All ranks, once they have met; empty with one."""
        return self._gang.members if self._gang is not None else ()

    def meet(self, environment: Mapping[str, str], run_id: str | None) -> None:
        """Waits until all ranks are there; a second call does nothing.

        Raises:
            EnvironmentNotAble: some did not come, and are named, or have another harness.
        """
        if self.topology.size == 1 or self._gang is not None:
            return
        self._gang = gang = Gang.meet(
            self.topology,
            meeting_key(self.topology, environment, run_id),
            {"harness_version": harness_version()},
            addresses=meeting_addresses(self.topology, environment),
            same=("harness_version",),
            wait_s=meeting_seconds(environment),
            say=self._say,
        )
        if self.first:
            gang.on("gather", self._collect)
            self._hear_stop()
            gang.on_lost(self._lost)
        else:
            gang.on("all", lambda rank, data: self._answers.put(tuple(data)))
            gang.on_lost(self._leave)

    # What all ranks do together before there is a distribution.  All call it in the same order.

    def from_first(self, name: str, make: Callable[[], _T]) -> _T:
        """What ``make`` (a JSON value) gives on rank 0, which alone calls it."""
        if self._gang is None:
            return make()
        if self.first:
            value = make()
            self._gang.announce("all", [name, value])
            self._gang.flush()
            return value
        return self._answer(name)

    def gather(self, name: str, value: _T) -> list[_T]:
        """The JSON values of all ranks, by rank."""
        if self._gang is None:
            return [value]
        self._gang.tell("gather", [name, value])
        answer: list[_T] = self._answer(name)
        if self.first:
            # TensorFlow starts its workers with the interpreter held, and waits for the others.
            self._gang.flush()
        return answer

    def barrier(self, name: str) -> None:
        """Returns once all ranks have come here."""
        self.gather(name, None)

    def _answer(self, name: str) -> Any:
        said, value = self._answers.get()
        assert said == name, f"the ranks are not at the same place: {said}, {name}"
        return value

    def _collect(self, rank: int, data: Any) -> None:
        name, value = data
        here = self._gathered.setdefault(name, {})
        here[rank] = value
        if len(here) == self.topology.size:
            del self._gathered[name]
            together = [here[number] for number in range(self.topology.size)]
            assert self._gang is not None, "it has collected for the gang"
            self._gang.announce("all", [name, together])
            self._answers.put((name, together))

    def keep(self, what: Any) -> None:
        """Holds on to something for as long as the ranks are together."""
        self._kept.append(what)

    # What the other ranks tell rank 0 at any time.

    def on(self, kind: str, handler: Callable[[int, Any], None]) -> None:
        """Has ``handler(rank, data)`` called for what others :meth:`tell` rank 0, or for what it
        has to :meth:`announce`."""
        if self._gang is not None:
            self._gang.on(kind, handler)

    def announce(self, kind: str, data: Any) -> None:
        """Rank 0 tells all others something, which does not wait for them."""
        assert self._gang is not None, "one process has nobody to tell"
        self._gang.announce(kind, data)

    def tell(self, kind: str, data: Any) -> None:
        """Tells rank 0 something, which does not wait for it."""
        assert self._gang is not None, "one process has nobody to tell"
        self._gang.tell(kind, data)

    def forward_stop(self, name: str, hurries: bool) -> None:
        """Leaves a signal to rank 0, which decides for all."""
        self.tell("stop", [name, hurries])

    def on_stop(self, asked: Callable[[str, bool], None]) -> None:
        """Rank 0 has ``asked`` called with the signals that others have received."""
        self._asked = asked
        self._hear_stop()

    def _hear_stop(self) -> None:
        # Not before there is somebody to ask: until then the gang keeps what has come.
        asked = self._asked
        if self._gang is not None and asked is not None:
            self._gang.on("stop", lambda rank, data: asked(*data))

    # The end.

    def keep_account(self, account: Callable[[Lost], int]) -> None:
        """Rank 0 has ``account`` write down that a rank was lost; it gives the code to leave by."""
        self._account = account

    def ending(self) -> None:
        """The present process has met an error or its end, and writes the account itself."""
        self._ending.set()

    def look_for_cause(self) -> None:
        """Rank 0 has met an error that may only follow from the loss of another rank.

        A collective breaks at once when a rank dies; its loss is known a moment later, and ends
        this process by itself.
        """
        if self._gang is not None:
            time.sleep(_CAUSE_S)

    def all_done(self) -> None:
        """Rank 0 waits until the others have done everything."""
        if self._gang is not None and self.first:
            absent = self._gang.gather_byes()
            if absent:
                self._say(f"did not come to the end: {', '.join(one.name for one in absent)}")

    def at_end(self, what: Callable[[], None]) -> None:
        """Has ``what`` done once all ranks have come to the end, and not where one was lost."""
        self._at_end.append(what)

    def dismiss(self) -> None:
        """The end of all ranks: rank 0 lets the others go, they wait for that."""
        if self._gang is not None:
            if self.first:
                self._gang.dismiss()
            else:
                self._gang.leave()
        while self._at_end:
            self._at_end.pop()()

    def failed(self, error: HarnessError) -> None:
        """Another rank than the first reports its error; :attr:`noted` says if that was heard."""
        if self._gang is not None:
            self.noted = self._gang.failed(str(error), int(error.exit_code))

    def break_up(self, message: str, code: int) -> None:
        """Rank 0 sends the others away, with its reason and the code to leave with; once."""
        if self._gang is not None:
            self._send_away(Lost(0, self.members[0].name, message, code))

    def turn_away(
        self, environment: Mapping[str, str], run_id: str | None, error: HarnessError
    ) -> None:
        """Rank 0 cannot begin: it waits for the others only to tell them why."""
        try:
            self.meet(environment, run_id)
        except HarnessError as other:
            self._say(f"harness: and the ranks do not all know of it: {other}")
        self.break_up(str(error), int(error.exit_code))

    def give_up(self, message: str, account: Callable[[str], int]) -> None:
        """Rank 0 ends all ranks, whose training stands; does nothing where it ends already.

        Args:
            account: writes down the end; gives the code by which all leave.
        """
        if self._ending.is_set():
            return
        self._say(f"harness: {message}; what was saved stays")
        code = account(message)
        self.break_up(message, code)
        _exit(code)

    def _lost(self, lost: Lost) -> None:
        """On rank 0, whose main thread may stand in an operation that will never end."""
        if lost.message is not None and self._ending.wait(_OWN_ERROR_S):
            return
        if self._ending.is_set():
            return
        self._say(f"harness: {lost}")
        code = self._account(lost) if self._account is not None else _code(lost)
        # By the name of the one that was lost, and the code that the account has given.
        self._send_away(replace(lost, exit_code=code))
        _exit(code)

    def _send_away(self, why: Lost) -> None:
        if self._gang is not None and not self._broken:
            self._broken = True
            self._gang.break_up(why)

    def _leave(self, lost: Lost) -> None:
        self._say(f"harness: leaves, since {lost}")
        _exit(_code(lost))


def meeting_seconds(environment: Mapping[str, str]) -> float:
    """How long the ranks wait for one another.

    Raises:
        EnvironmentNotAble: the variable for it holds no positive number.
    """
    text = environment.get(_MEETING_VARIABLE, "300")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise EnvironmentNotAble(
            f"{_MEETING_VARIABLE} is no time",
            got=repr(text),
            allowed="seconds above 0",
            action="unset it, or set it to a number such as 300",
        )
    return seconds


def _code(lost: Lost) -> int:
    return int(ExitCode.TRAINING_FAILED) if lost.exit_code is None else lost.exit_code


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # No orderly end: other threads of this process wait for ranks that will not come.
    os._exit(code)
