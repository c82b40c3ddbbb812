"""A run that is measured at each of its saves: ``python -m benchmarks.saving NAME SAVES FOLDER``.

Trains all of an application of Keras with random weights on noise, as ``harness run`` does, with
a checkpoint after every step.  Only the loop's own call for a save is wrapped.  Prints JSON: the
bytes and the arrays of the state, and the seconds that each save took:

``held``       the loop was held by its call
``fresh``      numpy copied the same arrays into memory of their own
``touched``    numpy copied them into memory that it had written to before
``committed``  ``Store.commit`` took for them
``dd``         ``dd conv=fsync`` took for as many bytes, beside the checkpoints

A call, the copies, the commit and dd follow one another while nothing else of the run goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.rows import seconds

ROOT = Path(__file__).resolve().parent.parent
SIDE, BATCH = 32, 8


def main() -> None:
    """Reads the arguments, runs and prints."""
    name, saves, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    os.environ["HARNESS_CACHE"] = str(folder / "cache")
    from harness.cli.main import main as harness

    spec = folder / "spec.yaml"
    spec.write_text(json.dumps(_spec(name, saves)))  # JSON is YAML
    measured = Measured(folder)
    code = harness(["run", str(spec), "--run-dir", str(folder / "run"), "--quiet"])
    if code:
        raise AssertionError(f"the run ended with {code}")
    found = {"bytes": measured.bytes, "arrays": len(measured.tensors), "took": measured.took}
    print(json.dumps(found))


def _spec(name: str, saves: int) -> dict[str, Any]:
    count = {"count": saves * BATCH, "side": SIDE}
    return {
        "harness_spec": 1,
        "name": "saving",
        "plugins": [str(ROOT / "benchmarks" / "made_up.py")],
        "backbone": {"handle": "plugin:application", "options": {"name": name}},
        "data": {
            "source": {"plugin": "noise", "options": count},
            "validation": None,
            "image_size": SIDE,
        },
        "training": {
            "batch_size": BATCH,
            "phases": [{"name": "all", "epochs": 1, "unfreeze": "all"}],
        },
        "checkpoint": {"every": "1 steps", "keep": 1},
    }


class Measured:
    """Stands around the saves of this process from now on."""

    def __init__(self, folder: Path) -> None:
        from harness.checkpoint.background import Background
        from harness.checkpoint.store import Store
        from harness.train.keeper import Keeper

        self.took: dict[str, list[float]] = {}
        self.tensors: dict[str, Any] = {}
        self._folder = folder
        self._store = Store(folder / "alone", keep=1, access="private", log=_say)
        save, begin = Keeper.save, Background.save

        def measured(keeper: Keeper, position: Any, *arguments: Any, **options: Any) -> None:
            if keeper.has_saved(position.step):
                return
            self._note("held", lambda: save(keeper, position, *arguments, **options))
            keeper.settle()
            self._peers(position.step)

        def taken(saver: Background, step: int, tensors: Any, *arguments: Any, **more: Any) -> None:
            # The first one's are what is copied and written from now on.  Those of later ones go
            # as they do in any run, so that the heap has as much room for a copy as for a save.
            self.tensors = self.tensors or tensors
            begin(saver, step, tensors, *arguments, **more)

        Keeper.save = measured  # type: ignore[method-assign]
        Background.save = taken  # type: ignore[method-assign]

    @property
    def bytes(self) -> int:
        """Of a state."""
        return sum(array.nbytes for array in self.tensors.values())

    def _peers(self, step: int) -> None:
        import numpy as np

        from harness.checkpoint.snapshot import Snapshot

        arrays = list(self.tensors.values())
        self._note("fresh", lambda: [np.array(array) for array in arrays])
        pairs = [(np.array(array), array) for array in arrays]
        self._note("touched", lambda: [np.copyto(*pair) for pair in pairs])
        pairs.clear()
        self._note("committed", lambda: self._store.commit(Snapshot(step, self.tensors, {})))
        source, target = self._source(), self._folder / "written"
        command = ["dd", f"if={source}", f"of={target}", "bs=4M", "conv=fsync", "status=none"]
        self._note("dd", lambda: subprocess.run(command, check=True))  # noqa: S603 - no user's words
        target.unlink()

    def _note(self, what: str, work: Callable[[], object]) -> None:
        self.took.setdefault(what, []).append(seconds(work))

    def _source(self) -> Path:
        """As many bytes as the state has, which the page cache holds."""
        source = self._folder / "bytes"
        if not source.exists():
            source.write_bytes(os.urandom(self.bytes))
        source.read_bytes()
        return source


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
