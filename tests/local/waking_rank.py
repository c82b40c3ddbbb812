"""One of two ranks that sum something many times: ``python waking_rank.py TIMES``.

Prints the sums as JSON, and ends without Horovod's own end, which would sleep first.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

from harness.distribute.topology import Topology
from harness.worker.environment import import_tensorflow
from harness.worker.ranks import Ranks


def main(times: int) -> None:
    ranks = Ranks(Topology.from_environment(os.environ), lambda text: None)
    ranks.meet(os.environ, None)
    import_tensorflow(None)
    from harness.distribute.choose import choose
    from harness.worker.links import links_of

    topology = ranks.topology
    links = links_of(ranks, os.environ)
    distribution = choose("horovod", "cpu", topology, links=links).distribution
    mine = np.array([topology.rank + 1], np.int64)
    sums = [int(distribution.sum_ranks(mine * turn)[0]) for turn in range(times)]
    print(json.dumps(sums), flush=True)
    ranks.barrier("the end")
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
