"""Processes that are killed or stopped, and two that believe to be the one."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults import inject
from tests.faults.world import SAVED, World, said
from tests.local.rank_helpers import Ended, Group, assert_all, group, start_ranks
from tests.local.training_helpers import assert_same_result, checkpoint_steps

KILLS = 20
WHEN = ("beginning", "save", "further", "steps")


def await_file(started: Group, file: Path) -> None:
    """Until the ranks have come to a place."""
    inject.wait_for(file.exists, *started.processes, said=lambda: said(started))


def test_06_all_ranks_killed_at_twenty_random_points(world: World, undisturbed: Path) -> None:
    """While they begin, between steps, and inside of a save, which every fourth kill waits for;
    another fourth comes after one, so that the run gets further."""
    world.spec(sleep_s=0.1)
    draw = random.Random(6)
    in_saves, step = 0, 0
    for number in range(KILLS):
        with world.start() as started:
            # Never so late that the run could end.
            when = "beginning" if step > 15 else WHEN[number % len(WHEN)]
            come_to(when, started, world, step)
            if when != "save":
                time.sleep(draw.uniform(0.0, 6.0 if when == "beginning" else 0.3))
            inject.kill(*started.processes)
            assert all(one.code == -signal.SIGKILL for one in started.ended())
        in_saves += bool(inject.in_save(world.run))
        before, step = step, max(checkpoint_steps(world.run), default=0)
        assert step >= before, "what was saved is never lost"
        if world.places.exists():
            world.forget_places()
    print(f"{KILLS} kills, {in_saves} inside of a save; they came to step {step}")
    assert in_saves and step
    world.finish()
    assert_same_result(world.run, undisturbed)


def come_to(when: str, started: Group, world: World, step: int) -> None:
    """Waits for the first step of this start, a checkpoint later than ``step``, or a save."""
    until: dict[str, Callable[[], object]] = {
        "beginning": lambda: True,
        "steps": lambda: True,
        "further": lambda: checkpoint_steps(world.run)[-1:] > [step],
        "save": lambda: inject.in_save(world.run),
    }
    if when != "beginning":
        inject.wait_for(lambda: list(world.places.glob("step-*")), *started.processes)
    inject.wait_for(until[when], *started.processes)


def test_07_what_a_killed_save_has_left(world: World, undisturbed: Path) -> None:
    world.spec()
    with world.start() as started:
        inject.wait_for(lambda: inject.in_save(world.run), *started.processes)
        inject.kill(*started.processes)
        started.ended()
    (left,) = inject.in_save(world.run)
    ended = world.train()
    assert_all(ended)
    assert left.name in ended[0].err, "it is said"
    assert inject.in_save(world.run) == []
    assert_same_result(world.run, undisturbed)


def test_13_one_rank_killed(world: World, undisturbed: Path) -> None:
    world.spec(sleep_s=0.1)
    with world.start() as started:
        await_file(started, world.places / "step-10")
        inject.kill(started.processes[1])
        at = time.monotonic()
        first, second = started.ended()
        assert time.monotonic() - at < 60
    assert (first.code, second.code) == (SAVED, -signal.SIGKILL), first.err
    assert "Traceback" not in first.err
    end = world.outcome(1)
    assert end["outcome"] == "interrupted"
    assert end["message"].startswith("rank 1 (")
    assert "ended without a word" in end["message"]
    world.finish()
    assert_same_result(world.run, undisturbed)


def test_14_one_rank_stopped(world: World, undisturbed: Path) -> None:
    world.spec(sleep_s=0.1, **{"cluster.watchdog_s": 20})
    with world.start() as started:
        await_file(started, world.places / "step-10")
        inject.send(signal.SIGSTOP, started.processes[1])
        assert started.processes[0].wait(150) == SAVED, said(started)
    end = world.outcome(1)
    assert end["outcome"] == "interrupted"
    assert "rank 1 (" in end["message"] and "does not answer" in end["message"]
    world.finish()
    assert_same_result(world.run, undisturbed)


def test_18_a_second_start_while_the_first_one_still_runs(world: World, tmp_path: Path) -> None:
    """On another host, where no lock is to be had and the first one seemed to be gone."""
    world.spec(sleep_s=0.1)
    variables = inject.without_locks(tmp_path)
    with world.start(1, **variables) as old:
        await_file(old, world.places / "step-7")
        (process,) = old.processes
        inject.send(signal.SIGSTOP, process)
        inject.wait_for(lambda: inject.has_stopped(process))
        before = checkpoint_steps(world.run)
        refused = run_elsewhere(world, variables)
        assert refused.code == 2 and "another process works on this run" in refused.err
        age(world.run / "heartbeat.json")
        new = run_elsewhere(world, variables)
        assert new.code == 0, new.err
        assert f"continues from the checkpoint of step {before[-1]}" in new.err
        written = contents(world.run)
        inject.send(signal.SIGCONT, process)
        (ended,) = old.ended()
    assert ended.code == 2, ended.err
    assert "taken over from attempt 1" in ended.err and "on host other" in ended.err
    assert "Traceback" not in ended.err
    assert contents(world.run) == written, "it has written nothing more"


def run_elsewhere(world: World, variables: dict[str, str]) -> Ended:
    """The same command on another host, to its end."""
    with group(world.folder / "elsewhere") as started:
        command = inject.on_host("other", world.command(1))
        start_ranks(started, 1, command, lambda rank: variables)
        (ended,) = started.ended()
        return ended


def age(heartbeat: Path) -> None:
    """Makes the last sign of life one of yesterday."""
    beat = json.loads(heartbeat.read_text())
    heartbeat.write_text(json.dumps({**beat, "time": "2020-01-01T00:00:00.000Z"}))


def contents(run: Path) -> dict[str, str]:
    """The digests of all files of a run but TensorBoard's, which buffers, and what a save that is
    under way has in its own folder."""
    files = (path for path in run.rglob("*") if path.is_file())
    files = (file for file in files if "tfevents" not in file.name and ".tmp-" not in str(file))
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
