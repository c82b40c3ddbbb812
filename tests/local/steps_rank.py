"""One rank that carries out single steps: ``steps_rank.py FOLDER NAME STATES [OVERRIDE]...``.

Starting processes is what takes long, so one start does all of these, by the specs in ``FOLDER``:

- those of ``HEADS``: the head for some steps, from the beginning; with more than two ranks only
  those of ``HEADS_OF_MANY``;
- ``fine_tuned``: one step of the whole model from each of the first ``STATES`` in
  ``FOLDER/states``, which a process called ``single`` makes before, by fine-tuning.

Rank 0 writes ``FOLDER/NAME.npz``: losses, weights and gradients.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.distribute.topology import Topology
from harness.runs.paths import RunPaths
from harness.spec import Spec, Trust, load_spec
from harness.worker.environment import import_tensorflow, prepare
from harness.worker.ranks import Ranks

if TYPE_CHECKING:
    from harness.distribute.choose import Choice

HEADS = ("whole", "accumulated", "normalised", "coral", "dann")
HEADS_OF_MANY = ("whole", "normalised")
HEAD_STEPS = 24
STATES = 10
BETWEEN_STATES = 3
RATE = 2.0**-7
"""Of fine-tuning; a power of two, by which nothing is rounded."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Bench:
    """Everything of a spec that a step needs, put together as a run does it."""

    def __init__(self, spec: Spec, choice: Choice, ranks: Ranks, folder: Path) -> None:
        from harness.train.optimizer import make_optimizer
        from harness.train.plan import make_plan
        from harness.train.state import Sums
        from harness.train.step import Steps
        from harness.worker.building import build_model
        from harness.worker.datasets import open_datasets
        from harness.worker.feeds import Feeds, examples_per_step

        self.distribution = choice.distribution
        sets = open_datasets(spec, say)
        self.feeds = Feeds(spec, sets, choice.distribution, RunPaths(folder / spec.name), ranks)
        self.model = build_model(spec, sets.classes, choice, None, Trust())
        self.optimizer = make_optimizer(spec)
        self.steps = Steps(
            self.model,
            self.optimizer,
            choice.distribution,
            examples_per_step(spec),
            spec.training.accumulate,
        )
        self._sums = Sums(self.steps, self.steps.zeros())
        (self.phase,) = make_plan(spec, self.feeds.steps_per_epoch).phases
        self._many = self.steps.compile(self.phase)
        beside = [] if self.model.alignment is None else self.model.alignment.variables
        self._weights = [*self.model.keras.weights, *beside]
        self.distribution.broadcast([*self._weights, *self.optimizer.variables])

    def goes_to(self, step: int) -> None:
        """The next step is this one."""
        self.steps.set_position(step, step)
        of = self.feeds.train.steps_per_epoch
        self._iterator = iter(self.feeds.training(step // of, step % of, self.phase.image_size))

    def step(self) -> tuple[float, float]:
        """Carries out one; the sum of its losses and its number of examples."""
        import tensorflow as tf

        self._many(self._iterator, tf.constant(1))
        loss, count = self.steps.progress()
        self._sums.end_window()
        return loss, count

    def weights(self) -> list[np.ndarray]:
        from harness.train.state import snapshot

        named = {str(at): weight for at, weight in enumerate(self._weights)}
        return list(snapshot(named, "").values())

    def set_weights(self, values: list[np.ndarray]) -> None:
        """Those of a state, as in a restore: rank 0 has them, and the optimizer has no past."""
        from harness.model.assemble import stable_names
        from harness.train.state import assign

        slots = self.slots()
        if self.distribution.topology.is_first:
            named = dict(zip(stable_names(self._weights), self._weights, strict=True))
            assign(named, dict(zip(named, values, strict=True)), "")
            empty = dict(zip(stable_names(slots), slots, strict=True))
            assign(empty, {name: np.zeros(v.shape, np.float32) for name, v in empty.items()}, "")
        self.distribution.broadcast([*self._weights, *slots])

    def slots(self) -> list[Any]:
        return [v for v in self.optimizer.variables if v.dtype.is_floating and v.shape.rank]

    def check_equal(self) -> None:
        from harness.train.agreement import check_equal

        names = {f"{at} {v.name}": v for at, v in enumerate(self._weights)}
        check_equal(self.distribution, names, "at the end")


def train_head(bench: Bench, name: str) -> dict[str, np.ndarray]:
    bench.goes_to(0)
    losses = [bench.step() for _ in range(HEAD_STEPS)]
    bench.check_equal()
    weights = {f"{name}/weight/{at}": value for at, value in enumerate(bench.weights())}
    return {f"{name}/losses": np.array(losses), **weights}


def first_of(bench: Bench) -> int:
    """Where fine-tuning starts: near the end of the first epoch, with its ragged last batch."""
    return bench.feeds.train.steps_per_epoch - 1 - (STATES // 2) * BETWEEN_STATES


def make_states(bench: Bench, folder: Path) -> None:
    folder.mkdir()
    bench.goes_to(first_of(bench))
    for number in range(STATES):
        np.savez(folder / f"{number}.npz", *bench.weights())
        losses = [bench.step() for _ in range(BETWEEN_STATES)]
        say(f"state {number}, then {losses}")


def one_step_each(bench: Bench, folder: Path, states: int) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for number in range(states):
        with np.load(folder / f"{number}.npz") as state:
            bench.set_weights([state[name] for name in state.files])
        bench.goes_to(first_of(bench) + number * BETWEEN_STATES)
        found[f"loss/{number}"] = np.array(bench.step())
        slots = [bench.distribution.copies(slot)[0].reshape(-1) for slot in bench.slots()]
        found[f"gradient/{number}"] = np.concatenate(slots) / -RATE
    bench.check_equal()
    return found


def main(folder: Path, name: str, states: int, overrides: list[str]) -> int:
    prepare(os.environ, say)
    ranks = Ranks(Topology.from_environment(os.environ), say)
    ranks.meet(os.environ, None)
    import_tensorflow(None)
    from harness.worker.devices import choose_devices

    specs = {
        file.stem: load_spec(str(file), overrides=overrides).spec
        for file in sorted(folder.glob("*.yaml"))
    }
    choice = choose_devices(specs["whole"], os.environ, ranks)
    found = {}
    for of in HEADS if ranks.topology.size <= 2 else HEADS_OF_MANY:
        found |= train_head(Bench(specs[of], choice, ranks, folder), of)
    bench = Bench(specs["fine_tuned"], choice, ranks, folder)
    if name == "single":
        make_states(bench, folder / "states")
    found |= one_step_each(bench, folder / "states", states)
    if ranks.first:
        np.savez(folder / f"{name}.npz", **found)
    ranks.dismiss()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
