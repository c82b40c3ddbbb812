"""The run that the faults happen to: two ranks of Horovod, or more, or one process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.local.rank_helpers import Ended, Group, assert_all, group, start_ranks
from tests.local.training_helpers import HARNESS, lines, write_spec

SAVED = 75
GRACE_S = 60
"""From a signal to the end of the last rank; SLURM's usual ``KillWait`` is half of it, the signal
before preemption comes minutes earlier."""

# Shows where the training is, by a file of each place, and stays there for a moment.
PLACES = """
import os, pathlib, time
import tf_keras
from harness.plugins import register

RANK = os.environ.get("SUBMITIT_LOCAL_GLOBALID", "0")

@register("callback", "places")
class Places(tf_keras.callbacks.Callback):
    def __init__(self, folder, sleep_s=0.0, ranks=("0",)):
        super().__init__()
        self.folder, self.sleep_s, self.ranks = pathlib.Path(folder), sleep_s, ranks
        self.folder.mkdir(exist_ok=True)

    def at(self, place, stay=True):
        if RANK in self.ranks:
            (self.folder / place).touch()
        time.sleep(self.sleep_s if stay else 0.0)

    def on_epoch_begin(self, epoch, logs=None):
        self.at("compile", stay=False)

    def on_train_batch_end(self, batch, logs=None):
        self.at(f"step-{int(self.model.optimizer.iterations.numpy())}")

    def on_test_begin(self, logs=None):
        self.at("validation")

    def get_state(self):
        return {}

    def set_state(self, state):
        pass
"""


class World:
    """Specs, and starts of them.

    Args:
        folder: for one test.
        backbone: of the specs.
        data: of them.
    """

    def __init__(self, folder: Path, backbone: Path, data: Path) -> None:
        self.folder, self._backbone, self.data = folder, backbone, data
        self.run, self.places = folder / "run", folder / "places"
        self.spec_file = folder / "spec.yaml"

    def spec(self, *, sleep_s: float = 0.0, **changes: Any) -> Path:
        """A spec of 20 steps that saves every third and validates every fifth."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "places.py").write_text(PLACES)
        options = {"folder": str(self.places), "sleep_s": sleep_s}
        plain = {
            "plugins": [str(self.folder / "places.py")],
            "training.callbacks": [{"plugin": "places", "options": options}],
            "training.phases": [{"name": "all", "epochs": 4, "learning_rate": 0.01}],
            # Of some size, so that a save takes long enough to be met.
            "head.hidden": [64, 512],
            "logging.every": "1 steps",
            "data.test": None,
        }
        return write_spec(self.folder, self._backbone, self.data, **{**plain, **changes})

    def command(self, ranks: int, *more: str) -> list[str]:
        """That starts or continues the run."""
        strategy = "single" if ranks == 1 else "horovod"
        spec = ["run", str(self.spec_file), "--run-dir", str(self.run)]
        return [*HARNESS, *spec, "-o", f"cluster.strategy={strategy}", *more]

    @contextmanager
    def start(self, ranks: int = 2, *more: str, **variables: str) -> Iterator[Group]:
        """Ranks that run; none of them is left behind."""
        each: dict[str, str] = variables
        with group(self.folder / "logs") as started:
            start_ranks(started, ranks, self.command(ranks, *more), lambda rank: each)
            yield started

    def train(self, ranks: int = 2, *more: str, **variables: str) -> list[Ended]:
        """Ranks to their end."""
        with self.start(ranks, *more, **variables) as started:
            return started.ended()

    def finish(self, ranks: int = 2, *more: str) -> None:
        """Ranks that must end well."""
        assert_all(self.train(ranks, *more))

    def forget_places(self) -> None:
        """Before another start."""
        for place in self.places.iterdir():
            place.unlink()

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """The lines of their account."""
        return lines(self.run / "attempts.jsonl")

    def outcome(self, number: int) -> Mapping[str, Any]:
        """How an attempt ended, as the batch script reads it."""
        return dict(json.loads((self.run / "slurm" / f"outcome-{number}.json").read_text()))


def said(started: Group) -> str:
    """All of it, for the message of a failure."""
    return started.said()
