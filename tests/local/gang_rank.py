"""One rank of a gang as a process of its own: ``python gang_rank.py WAIT_S ACTION``.

What it is told and what it does goes to its output, a JSON object a line.  ``ACTION`` is

- ``leave``: leaves at once, in order;
- ``stay``: stays until it is ended from outside, or by a loss;
- ``fail MESSAGE``: reports an error of its own.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from harness.distribute.gang import Gang, Lost
from harness.distribute.meeting import meeting_addresses, meeting_key
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble


def tell(**facts: object) -> None:
    # One write a line: two threads write here.
    os.write(1, json.dumps(facts).encode() + b"\n")


def main(wait_s: float, action: str, *words: str) -> int:
    topology = Topology.from_environment(os.environ)
    try:
        gang = Gang.meet(
            topology,
            meeting_key(topology, os.environ, None),
            {"port": 5000 + topology.rank, "of": os.environ.get("GANG_OF")},
            addresses=meeting_addresses(topology, os.environ),
            wait_s=wait_s,
            say=lambda text: tell(said=text),
        )
    except EnvironmentNotAble as error:
        tell(error=str(error))
        return int(error.exit_code)

    def leave(lost: Lost) -> None:
        tell(lost=lost.to_json(), words=str(lost))
        if gang.rank == 0:
            gang.break_up(lost)
        os._exit(1)

    gang.on_lost(leave)
    tell(met=[member.to_json() for member in gang.members])
    assert "tensorflow" not in sys.modules, "ranks meet before TensorFlow is imported"
    if action == "fail":
        gang.failed(" ".join(words), 4)
        tell(reported=True)
        return 4
    if action == "stay":
        threading.Event().wait(120)
    tell(left=gang.leave() is None)
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), *sys.argv[2:]))
