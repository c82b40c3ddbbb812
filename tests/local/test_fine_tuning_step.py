"""One step from equal states: fine-tuning, accumulation and normalised heads on any devices."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import assert_all, group, start_ranks
from tests.local.steps_rank import HEADS_OF_MANY, RATE, STATES
from tests.local.training_helpers import write_spec

STARTS = {
    "single": (1, STATES, ["cluster.strategy=single"]),
    "mirrored-2": (1, STATES, ["cluster.strategy=mirrored", "cluster.replicas_per_rank=2"]),
    "horovod-2": (2, STATES, ["cluster.strategy=horovod"]),
    "multiworker-2": (2, 4, ["cluster.strategy=multiworker"]),
    "horovod-4": (4, 4, ["cluster.strategy=horovod"]),
}
"""By name: ranks, states that they step from, and what is set beside the spec."""
LOSS_RELATIVE = 1e-6
GRADIENT_RELATIVE = 1e-4
HEAD_RELATIVE = 1e-5


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_backbone: Path,
    quickstart: Path,
    write_pictures: Callable[..., Path],
) -> Path:
    """The specs that steps_rank.py carries out."""
    made = tmp_path_factory.mktemp("steps")
    write_pictures(made / "data" / "train", ["blue", "green", "red"], 29, 16)
    write_pictures(made / "data" / "test", ["blue", "green", "red"], 2, 16)
    one = {"training.phases": [{"name": "all", "epochs": 9, "learning_rate": 0.01}]}
    target = {"target": str(made / "data" / "target")}
    # Of a length that divides nothing, so that the target's batches have ragged ends of their own.
    write_pictures(made / "data" / "target", ["blue", "green", "red"], 9, 16)
    adapted = {"training.batch_size": 16, "head.batch_norm": True}
    specs = {
        "coral": {**adapted, "adaptation": {"method": "coral", "weight": 10.0, **target}},
        "dann": {**adapted, "adaptation": {"method": "dann", "weight": 1.0, **target}},
        "whole": {"training.batch_size": 16},
        "accumulated": {"training.batch_size": 8, "training.accumulate": 2},
        "normalised": {"training.batch_size": 16, "head.batch_norm": True, "head.hidden": [8, 8]},
        "fine_tuned": {
            "backbone.handle": f"hub:{quickstart / 'backbone' / 'mobilenet_v2'}",
            "data.train": str(quickstart / "train"),
            "data.test": None,
            "data.image_size": 64,
            # With momentum: after one step its slots are the gradients, times the rate.
            "training.optimizer": {"name": "sgd", "momentum": 0.9},
            "training.phases": [
                {"name": "all", "epochs": 9, "learning_rate": RATE, "unfreeze": "all"}
            ],
        },
    }
    for name, changes in specs.items():
        file = write_spec(made, tiny_backbone, made / "data", name=name, **{**one, **changes})
        file.rename(made / f"{name}.yaml")
    return made


class Figures:
    """What each start has found, made when it is first asked for; ``single`` before the rest.

    A start that has failed is not tried again by the next test.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tried: set[str] = set()
        self._made: dict[str, dict[str, np.ndarray]] = {}

    def __getitem__(self, name: str) -> dict[str, np.ndarray]:
        if name not in self._made:
            assert name not in self._tried, f"the start of {name} has failed before"
            if name != "single":
                assert self["single"]
            self._tried.add(name)
            size, states, overrides = STARTS[name]
            script = str(Path(__file__).with_name("steps_rank.py"))
            with group(self._folder / f"{name}-logs") as started:
                command = [sys.executable, script, str(self._folder), name, str(states), *overrides]
                start_ranks(started, size, command)
                assert_all(started.ended())
            with np.load(self._folder / f"{name}.npz") as found:
                self._made[name] = {key: found[key] for key in found.files}
        return self._made[name]


@pytest.fixture(scope="module")
def figures(folder: Path) -> Figures:
    return Figures(folder)


OTHERS = [name for name in STARTS if name != "single"]
OF_TWO = [name for name in OTHERS if STARTS[name][0] <= 2]


@pytest.fixture(params=OTHERS)
def name(request: pytest.FixtureRequest) -> str:
    """What is compared with ``single``."""
    if request.param.startswith("horovod"):
        need_horovod("gloo")
    return str(request.param)


def means(losses: np.ndarray) -> np.ndarray:
    """Mean losses of [sum, count] pairs."""
    return losses[..., 0] / losses[..., 1]


def off(found: np.ndarray, right: np.ndarray) -> float:
    """L2 norm of the difference, relative to what is right."""
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def test_fine_tuning_makes_the_same_step_from_each_state(figures: Figures, name: str) -> None:
    one, other = figures["single"], figures[name]
    losses, gradients = [], []
    for number in range(STARTS[name][1]):
        loss, count = one[f"loss/{number}"]
        assert count == other[f"loss/{number}"][1]
        losses.append(abs(other[f"loss/{number}"][0] / loss - 1))
        gradients.append(off(other[f"gradient/{number}"], one[f"gradient/{number}"]))
    print(f"{name}: loss {max(losses):.1e}, gradient {max(gradients):.1e} at most")
    assert max(losses) < LOSS_RELATIVE
    assert max(gradients) < GRADIENT_RELATIVE


def test_the_states_are_of_one_run_and_a_batch_is_ragged(figures: Figures, folder: Path) -> None:
    one = figures["single"]
    assert len({int(one[f"loss/{number}"][1]) for number in range(STATES)}) == 2
    assert one["gradient/0"].size > 2_000_000  # all of MobileNetV2
    states = []
    for number in range(STATES):
        with np.load(folder / "states" / f"{number}.npz") as state:
            states.append(np.concatenate([state[name].reshape(-1) for name in state.files]))
    gone = [off(state, states[0]) for state in states]
    print("relative way from the first state:", ", ".join(f"{way:.1e}" for way in gone))
    assert gone == sorted(gone)
    assert len(set(gone)) == STATES


@pytest.mark.parametrize("name", OF_TWO, indirect=True)
def test_accumulated_batches_are_one_of_their_sum(figures: Figures, name: str) -> None:
    right = figures["single"]
    for where in ("single", name):
        found = figures[where]
        losses = means(found["accumulated/losses"]) / means(right["whole/losses"]) - 1
        print(f"{where}: {np.abs(losses).max():.1e} at most")
        np.testing.assert_allclose(losses, 0, atol=HEAD_RELATIVE)
        for key in (key for key in right if key.startswith("whole/weight/")):
            same = found[key.replace("whole", "accumulated")]
            np.testing.assert_allclose(same, right[key], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("what", HEADS_OF_MANY)
def test_heads_are_trained_the_same(figures: Figures, name: str, what: str) -> None:
    """The moments of a normalised head are those of the global batch."""
    same_head(figures, name, what)


@pytest.mark.parametrize("what", ["coral", "dann"])
@pytest.mark.parametrize("name", OF_TWO, indirect=True)
def test_adaptations_compare_the_same(figures: Figures, name: str, what: str) -> None:
    """All of the global batch is compared."""
    same_head(figures, name, what)


def same_head(figures: Figures, name: str, what: str) -> None:
    one, other = figures["single"], figures[name]
    losses = means(other[f"{what}/losses"]) / means(one[f"{what}/losses"]) - 1
    print(f"{name}, {what}: {np.abs(losses).max():.1e} at most")
    np.testing.assert_allclose(losses, 0, atol=HEAD_RELATIVE)
    for key in (key for key in one if key.startswith(f"{what}/weight/")):
        np.testing.assert_allclose(other[key], one[key], rtol=1e-3, atol=1e-5)
