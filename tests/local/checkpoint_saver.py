"""Saves checkpoints until it is killed; driven by ``test_checkpoint_tensors.py``.

Reads lines ``FIRST_STEP FOLDER``, forks a child for each, writes ``pid N``, then ``saved STEP``
after every save, then ``ended``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf  # noqa: F401  imported before the fork, used in the child only

from harness.checkpoint import Store


def content(step: int) -> dict[str, np.ndarray]:
    """Tensors that depend on the step, of a few hundred kB."""
    draws = np.random.default_rng(step)
    return {
        "model/kernel": draws.normal(size=(200, 300)).astype(np.float32),
        "optimizer/m": draws.normal(size=(500, 100)),
        "step": np.array(step, np.int64),
    }


def say(line: str) -> None:
    """One write, so that lines of parent and child do not mix."""
    os.write(1, f"{line}\n".encode())


def save_forever(folder: Path, step: int) -> None:
    """Never returns."""
    store = Store(folder, keep=2, access="private", log=lambda text: None)
    while True:
        store.save(step, content(step), {"step": step})
        say(f"saved {step}")
        step += 1


def main() -> None:
    """Serves one request after the other."""
    for line in sys.stdin:
        first, folder = line.split(maxsplit=1)
        child = os.fork()
        if child == 0:
            save_forever(Path(folder.strip()), int(first))
        say(f"pid {child}")
        os.waitpid(child, 0)
        say("ended")


if __name__ == "__main__":
    main()
