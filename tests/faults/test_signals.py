"""Signals, wherever they come: saved inside the grace time, and exact."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults import inject
from tests.faults.world import GRACE_S, SAVED, World, said
from tests.local.rank_helpers import assert_all
from tests.local.training_helpers import assert_same_result, checkpoint_steps


def stopped_at(world: World, place: Callable[[], object], *signals: int) -> str:
    """Starts the ranks, asks all of them to stop once they are at a place; what rank 0 said."""
    with world.start() as started:
        inject.wait_for(place, *started.processes, said=lambda: said(started))
        for number in signals:
            inject.send(number, *started.processes)
            time.sleep(0.1)
        asked = time.monotonic()
        ended = started.ended()
        assert time.monotonic() - asked < GRACE_S
    assert_all(ended, SAVED)
    return ended[0].err


def test_01_a_signal_while_it_imports(world: World, undisturbed: Path) -> None:
    """Nothing is there to be saved: it leaves at once, with the code that is tried again."""
    world.spec()
    stopped_at(world, (world.run / "attempts.jsonl").exists, signal.SIGUSR2)
    assert world.outcome(1)["outcome"] == "requeue"
    assert checkpoint_steps(world.run) == []
    world.finish()
    assert_same_result(world.run, undisturbed)


def test_02_a_signal_in_a_step_in_validation_in_the_first_compile_and_in_a_save(
    world: World, undisturbed: Path
) -> None:
    world.spec(sleep_s=0.2)
    places: dict[str, Callable[[], object]] = {
        "compile": (world.places / "compile").exists,
        "step": (world.places / "step-4").exists,
        "validation": (world.places / "validation").exists,
        "save": lambda: list(world.places.glob("step-*")) and inject.in_save(world.run),
    }
    for number, (name, place) in enumerate(places.items(), start=1):
        told = stopped_at(world, place, signal.SIGUSR2)
        end = world.outcome(number)
        if name == "compile":  # of the first step: nothing has been done that could be saved
            assert end["outcome"] == "requeue"
        else:
            assert end["outcome"] == "stopped", name
            assert end["to_step"] == checkpoint_steps(world.run)[-1], name
            assert f"stopped at step {end['to_step']} (" in told
        assert inject.in_save(world.run) == [], "no save is left half-done"
        world.forget_places()
    world.finish()
    assert_same_result(world.run, undisturbed)


def test_04_two_signals_at_once_are_one_save(world: World, undisturbed: Path) -> None:
    world.spec(sleep_s=0.2)
    told = stopped_at(world, (world.places / "step-4").exists, signal.SIGUSR2, signal.SIGUSR2)
    assert told.count("it is saved") == 1
    assert [line["event"] for line in world.attempts] == ["begin", "end"]
    world.finish()
    assert_same_result(world.run, undisturbed)


def test_05_a_signal_while_a_rank_hangs(world: World, undisturbed: Path) -> None:
    """The others wait for it in a sum that never comes, and no step is left to save after."""
    world.spec(sleep_s=0.1, **{"cluster.watchdog_s": 20})
    with world.start() as started:
        inject.wait_for(
            (world.places / "step-7").exists, *started.processes, said=lambda: said(started)
        )
        first, second = started.processes
        inject.send(signal.SIGSTOP, second)
        inject.wait_for(lambda: inject.has_stopped(second))
        time.sleep(1)
        inject.send(signal.SIGUSR2, first)
        assert first.wait(150) == SAVED, said(started)
        told = said(started)
    assert "rank 1 (" in told
    kept = checkpoint_steps(world.run)
    assert kept and kept[-1] >= 6
    assert world.outcome(1)["outcome"] in ("interrupted", "requeue", "stopped")
    world.finish()
    assert_same_result(world.run, undisturbed)
