"""``heartbeat.json``: where the training is now, for those who watch from another host."""

from __future__ import annotations

import math
import os
import socket
from typing import Any

from harness.errors import StorageError
from harness.runs.clock import utc_now
from harness.runs.files import read_json, to_json, write_atomic
from harness.runs.paths import RunPaths

FRESH_S = 120.0
"""A heartbeat younger than this is a sign of life; the worker writes one every few seconds."""


def write_heartbeat(paths: RunPaths, **fields: Any) -> None:
    """Replaces the heartbeat; adds ``time``, ``host`` and ``pid``.

    Usual fields: ``attempt, step, total_steps, phase, epoch, examples_per_s, loss, eta_s``.
    A figure that is not finite is written as null, since JSON has no NaN.  It is not synced to
    disk: it comes every few seconds, and after a power cut nobody needs the last one.

    Raises:
        StorageError: it cannot be written.
    """
    beat = {"time": utc_now(), "host": socket.gethostname(), "pid": os.getpid()}
    for name, value in fields.items():
        unfit = isinstance(value, float) and not math.isfinite(value)
        beat[name] = None if unfit else value
    write_atomic(paths.heartbeat, to_json(beat), sync=False)


def read_heartbeat(paths: RunPaths) -> dict[str, Any] | None:
    """The last heartbeat, None if there is none yet.

    Raises:
        StorageError: it cannot be read or is broken.
    """
    try:
        beat = read_json(paths.heartbeat)
    except FileNotFoundError:
        return None
    if not isinstance(beat, dict):
        raise StorageError(
            f"{paths.heartbeat}: is no heartbeat", action="delete it; the next one replaces it"
        )
    return beat
