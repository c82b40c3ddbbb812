"""Rank 0's part: it lets the others in, notices who is lost, and sees all off."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from harness.distribute import wire
from harness.distribute.hearing import Hearing
from harness.distribute.links import Link, Links
from harness.distribute.meeting import meeting_ports
from harness.distribute.members import Lost, Member, disagreements, missing, ranks, with_addresses
from harness.distribute.sockets import listen, make_room
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble, Problem

_SILENT_S = 10.0
"""How long a connection may take to show that it is one of us."""
_STRANGERS = 128
"""Connections beyond those of the ranks that may be on trial at one time."""
_SAY_AFTER_S = 10.0
_FAILED_S = 1.0
"""After a rank's own error others may be heard of: one that died without a word explains it."""
_ENDED_S = 0.25
"""After an end without a word; so long are the ends of other ranks of its node waited for."""
_HEARD_S = 10.0
"""How long the others may take to hear that it is over."""


class FirstRank:
    """See :class:`~harness.distribute.gang.Gang`, of which this is rank 0's side."""

    def __init__(
        self, topology: Topology, me: Member, key: str, same: Collection[str], hearing: Hearing
    ) -> None:
        self.members = with_addresses([me], [])
        self._topology, self._hearing = topology, hearing
        self._ports, self._token = meeting_ports(key), wire.token_of(key)
        self._port = 0
        self._links = Links("harness-gang", self._line, self._ended, lambda: None)
        self._came: dict[int, Member] = {0: me}
        self._by_rank: dict[int, Link] = {}
        self._reached: list[str] = []
        self._same = same
        self._meeting = topology.size > 1
        self._problems: list[Problem] = []
        self._accused: list[Lost] = []
        self._wait_note: set[int] = set()
        self._byes: set[int] = set()
        self._parting = False
        """The others have been told to leave; their ends are no news."""

    # The meeting.

    def meet(self, wait_s: float) -> None:
        """Waits for all ranks.

        Raises:
            EnvironmentNotAble: some did not come, or do not fit together.
        """
        size = self._topology.size
        if size > 1:
            make_room(size)
            everywhere = self._topology.local_size < size
            listener = listen(self._ports, everywhere=everywhere)
            self._port = int(listener.getsockname()[1])
            self._links.listen(listener, self._at_the_door, wire.GREETING_LIMIT)
        self._links.start()
        begun = time.monotonic()
        if not self._links.wait_for(self._is_decided, min(_SAY_AFTER_S, wait_s)):
            self._hearing.say(f"waits for {self._missing()}, at most {wait_s:g} s")
            left = wait_s - (time.monotonic() - begun)
            if not self._links.wait_for(self._is_decided, left):
                self._links.post(partial(self._give_up, wait_s))
                self._links.wait_for(self._is_decided, _HEARD_S)
        if self._problems:
            self._links.wait_for(self._all_left, _HEARD_S)
            raise EnvironmentNotAble(self._problems)

    def _is_decided(self) -> bool:
        return not self._meeting

    def _missing(self) -> str:
        return missing(self._topology, list(self._came.values()))

    def _at_the_door(self, link: Link) -> None:
        if len(self._links.links) > self._topology.size + _STRANGERS:
            self._links.drop(link)
            return
        self._links.after(_SILENT_S, lambda: None if link.rank else self._links.drop(link))

    def _let_in(self, link: Link, line: bytes) -> None:
        """The two lines before a connection is a rank's."""
        try:
            if link.session is None:
                said, link.session = wire.answer(self._token, line, self._port)
                link.lines.limit = wire.JOIN_LIMIT
                self._links.send(link, said)
            else:
                _, data, reached = link.session.open(line)
                self._join(link, Member(**{**data, "address": link.peer}), str(reached))
        except wire.Unreadable:
            self._links.drop(link)  # a stranger: not ours to complain about

    def _join(self, link: Link, member: Member, reached: str) -> None:
        taken = self._came.get(member.rank)
        link.rank = member.rank
        link.lines.limit = wire.LINE_LIMIT
        if taken is not None or not 0 < member.rank < self._topology.size:
            self._by_rank[-member.rank or -self._topology.size] = link  # it is to hear of it, too
            others = taken.name if taken is not None else f"{self._topology.size} ranks"
            self._decide([_claimed_twice(member, others)])
            return
        self._came[member.rank] = member
        self._by_rank[member.rank] = link
        self._reached.append(reached)
        if len(self._came) == self._topology.size:
            self.members = with_addresses(list(self._came.values()), self._reached)
            self._decide(disagreements(self.members, self._same))

    def _give_up(self, wait_s: float) -> None:
        self._decide(
            [
                Problem(
                    f"{self._missing()} did not come within {wait_s:g} s",
                    got=ranks(self._came),
                    allowed=f"all {self._topology.size} ranks",
                    action="look into their logs for why they did not start; a firewall between "
                    "the nodes must let them talk (ports 20000-31999 of the first node)",
                )
            ]
        )

    def _decide(self, problems: list[Problem]) -> None:
        """Tells all who came how the meeting ended, and closes the door."""
        if not self._meeting:
            return
        self._meeting, self._problems, self._parting = False, problems, bool(problems)
        self._links.close_listener()
        mine = set(self._by_rank.values())
        for link in list(self._links.links - mine):
            self._links.drop(link)
        if problems:
            self._send_all("refused", [asdict(problem) for problem in problems])
        else:
            self._send_all("members", [member.to_json() for member in self.members])

    # While the run is going.

    def tell(self, kind: str, data: Any) -> None:
        # As it would come from another rank: what is no JSON is an error, a tuple is a list.
        _, received = json.loads(wire.encode(kind, data))
        self._links.post(lambda: self._hearing.deliver(0, kind, received))

    def announce(self, kind: str, data: Any) -> None:
        body = wire.encode("say", kind, data)
        self._links.post(lambda: self._send_body(body))

    def flush(self, wait_s: float = _HEARD_S) -> None:
        self._links.wait_for(self._all_sent, wait_s)

    def _all_sent(self) -> bool:
        return not any(link.open and link.unsent for link in self._by_rank.values())

    def post_hearing(self, action: Callable[[], None]) -> None:
        self._links.post(action)

    def failed(self, message: str, exit_code: int, wait_s: float) -> bool:
        mine = Lost(0, self.members[0].name, message, exit_code)
        self._links.post(lambda: self._accuse(mine, _FAILED_S))
        return self._links.wait_for(self._hearing.lost_handled.is_set, wait_s)

    def _line(self, link: Link, line: bytes) -> None:
        if link.rank is None:
            self._let_in(link, line)
            return
        assert link.session is not None, "a rank's connection has a session"
        kind, *rest = link.session.open(line)
        if kind == "say":
            self._hearing.deliver(link.rank, *rest)
        elif kind == "failed":
            self._wait_note.add(link.rank)
            message, exit_code = rest
            name = self._came[link.rank].name
            self._accuse(Lost(link.rank, name, message, exit_code, "it said so"), _FAILED_S)
        elif kind == "bye":
            self._byes.add(link.rank)
        elif kind == "heard":
            self._links.drop(link)

    def _ended(self, link: Link, why: str) -> None:
        rank = link.rank
        if rank is None or self._parting or rank in self._byes or self._by_rank.get(rank) != link:
            return
        name = self._came[rank].name
        if not self._meeting:
            self._accuse(Lost(rank, name, how=why), _ENDED_S)
            return
        absent = f"still missing: {self._missing()}"
        what = f"{name} ended before all ranks had come ({why})"
        self._decide([Problem(what, got=absent, action="look into its log")])

    def _accuse(self, lost: Lost, wait_s: float) -> None:
        """Takes note of a loss; which one was the cause is judged a moment later."""
        if any(one.rank == lost.rank for one in self._accused):
            return
        self._accused.append(lost)
        if self._hearing.lost is None and not self._parting:
            self._links.after(wait_s, self._judge)

    def _judge(self) -> None:
        """A rank that ended without a word is a cause; errors of others may be its consequence."""
        if self._hearing.lost is not None:
            return
        wordless = [one for one in self._accused if one.message is None]
        cause = (wordless or self._accused)[0]
        also = tuple(one.name for one in self._accused if one is not cause)
        self._hearing.lose(replace(cause, also=also))
        self._links.after(0.0, self._note)

    def _note(self) -> None:
        """Lets those go who said of their error, once the loss has been dealt with here."""
        if not self._hearing.lost_handled.is_set():
            self._links.after(0.05, self._note)
            return
        for rank in self._wait_note:
            self._send(self._by_rank[rank], wire.encode("noted"))

    # The end.

    def break_up(self, lost: Lost, wait_s: float = _HEARD_S) -> None:
        self._links.post(lambda: self._part("lost", lost.to_json()))
        self._links.wait_for(self._all_left, wait_s)
        self.close()

    def gather_byes(self, wait_s: float) -> tuple[Member, ...]:
        self._links.post(lambda: self._byes.add(0))  # after all that we told ourselves
        begun = time.monotonic()
        if not self._links.wait_for(self._is_gathered, min(_SAY_AFTER_S, wait_s)):
            self._hearing.say(f"waits for {ranks(self._without_bye())} to end")
            self._links.wait_for(self._is_gathered, wait_s - (time.monotonic() - begun))
        absent = self._without_bye()
        return tuple(member for member in self.members if member.rank in absent)

    def _without_bye(self) -> set[int]:
        return {member.rank for member in self.members} - self._byes

    def _is_gathered(self) -> bool:
        return not self._without_bye() or self._hearing.lost is not None

    def dismiss(self, wait_s: float = _HEARD_S) -> None:
        self._links.post(lambda: self._part("over", None))
        self._links.wait_for(self._all_left, wait_s)
        self.close()

    def _part(self, kind: str, data: Any) -> None:
        self._parting = True
        self._send_all(kind, data)

    def _all_left(self) -> bool:
        return self._parting and not any(link.open for link in self._by_rank.values())

    def close(self) -> None:
        self._links.stop()

    def _send_all(self, kind: str, data: Any) -> None:
        self._send_body(wire.encode(kind, data))

    def _send_body(self, body: bytes) -> None:
        for link in list(self._by_rank.values()):
            self._send(link, body)

    def _send(self, link: Link, body: bytes) -> None:
        if link.open and link.session is not None:
            self._links.send(link, *link.session.seal(body))


def _claimed_twice(member: Member, others: str) -> Problem:
    return Problem(
        f"two processes are rank {member.rank}, or it is none of this start",
        got=f"{member.name} at {member.address}; {others}",
        allowed="each rank once",
        action="see that the launcher's variables are not set by hand, and that no other start of "
        "this job is still running",
    )
