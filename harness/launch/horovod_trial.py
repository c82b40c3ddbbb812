"""A sum over two ranks with Horovod: ``rank FOLDER DEVICE``, or ``meet FOLDER DEVICE``.

Copied and run as a program of its own (see :mod:`.horovod_verify`), so it imports nothing of
harness.  ``rank`` is one of the processes, whoever started it; it writes what it saw to
``rank-N.json`` in FOLDER.  ``meet`` starts two of them with no launcher: it keeps Horovod's
rendezvous server and sets the variables that a launcher would set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

RANKS = 2
_VALUES = 1000


def rank(folder: Path, device: str) -> int:
    """One rank: sums a vector of (rank + 1) over all, and says what Horovod it is."""
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    if device == "GPU":
        own = tf.config.list_physical_devices("GPU")[hvd.local_rank()]
        tf.config.set_visible_devices(own, "GPU")
    with tf.device(f"/{device}:0"):
        total = hvd.allreduce(tf.fill([_VALUES], float(hvd.rank() + 1)), op=hvd.Sum).numpy()
    seen = {
        "rank": hvd.rank(),
        "size": hvd.size(),
        "lowest": float(total.min()),
        "highest": float(total.max()),
        "controller": "mpi" if hvd.mpi_enabled() else "gloo",
        # nccl_built() is a version number.
        "built_with": [
            name
            for name, built in (
                ("gloo", hvd.gloo_built()),
                ("mpi", hvd.mpi_built()),
                ("nccl", hvd.nccl_built()),
                ("cuda", hvd.cuda_built()),
            )
            if built
        ],
    }
    (folder / f"rank-{hvd.rank()}.json").write_text(json.dumps(seen))
    hvd.shutdown()
    return 0


def meet(folder: Path, device: str) -> int:
    """Starts the ranks of one node, and returns 0 if all of them did."""
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.http.http_server import RendezvousServer

    server = RendezvousServer()
    port = server.start()
    server.init(get_host_assignments(parse_hosts(f"node0:{RANKS}"), RANKS))
    shared = {
        "HOROVOD_SIZE": str(RANKS),
        "HOROVOD_LOCAL_SIZE": str(RANKS),
        "HOROVOD_CROSS_RANK": "0",
        "HOROVOD_CROSS_SIZE": "1",
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1",
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_GLOO_IFACE": "lo",
        "HOROVOD_HOSTNAME": "node0",
    }
    started = []
    for number in range(RANKS):
        own = {"HOROVOD_RANK": str(number), "HOROVOD_LOCAL_RANK": str(number)}
        command = [sys.executable, __file__, "rank", str(folder), device]
        started.append(subprocess.Popen(command, env={**os.environ, **shared, **own}))  # noqa: S603
    codes = [process.wait() for process in started]
    server.stop()
    return max(map(abs, codes))


if __name__ == "__main__":
    what, where, on = sys.argv[1:]
    sys.exit({"rank": rank, "meet": meet}[what](Path(where), on))
