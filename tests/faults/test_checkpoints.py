"""Checkpoints that are damaged, and disks that do not take them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.faults import inject
from tests.faults.conftest import Make
from tests.faults.world import World
from tests.horovod_here import need_horovod
from tests.local.rank_helpers import assert_all
from tests.local.training_helpers import assert_same_result, checkpoint_steps


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, make: Make) -> World:
    """A run that was killed and has two checkpoints at least."""
    need_horovod("gloo")
    world = make(tmp_path_factory.mktemp("killed"))
    world.spec(sleep_s=0.05)
    with world.start() as started:
        inject.wait_for(lambda: len(inject.checkpoints(world.run)) > 1, *started.processes)
        inject.kill(*started.processes)
        started.ended()
    return world


@pytest.fixture
def copy(killed: World, world: World) -> World:
    """A copy of it, to be damaged."""
    world.folder.mkdir(exist_ok=True)
    world.spec_file = killed.spec_file
    shutil.copytree(killed.run, world.run)
    return world


def one_before_the_newest(world: World, undisturbed: Path, damaged: Path) -> None:
    """The run goes on from there, says which one it could not use, and is exact."""
    before, newest = checkpoint_steps(world.run)[-2:]
    ended = world.train()
    assert_all(ended)
    told = ended[0].err
    assert re.search(rf"step-0*{newest}\b.*{re.escape(damaged.name)}", told), told
    assert f"continues from the checkpoint of step {before}" in told
    assert_same_result(world.run, undisturbed)


@pytest.mark.parametrize("name", ["tensors.data-00000-of-00001", "tensors.index", "manifest.json"])
def test_08_the_newest_checkpoint_is_cut(name: str, copy: World, undisturbed: Path) -> None:
    damaged = inject.checkpoints(copy.run)[-1] / name
    inject.cut(damaged)
    one_before_the_newest(copy, undisturbed, damaged)


def test_09_one_bit_of_the_newest_checkpoint_is_flipped(copy: World, undisturbed: Path) -> None:
    damaged = inject.checkpoints(copy.run)[-1] / "tensors.data-00000-of-00001"
    inject.flip_bit(damaged, damaged.stat().st_size * 8 // 2)
    one_before_the_newest(copy, undisturbed, damaged)


@pytest.mark.parametrize("content", [b"", b"\x00\xffgarbage"])
def test_10_the_record_is_empty_or_garbage(content: bytes, copy: World, undisturbed: Path) -> None:
    """It is taken as it was before, and decides nothing of where the run goes on."""
    (copy.run / "run.json").write_bytes(content)
    newest = checkpoint_steps(copy.run)[-1]
    ended = copy.train()
    assert_all(ended)
    told = ended[0].err
    assert "run.json: is no valid JSON; taken as it was before its last change" in told
    assert f"continues from the checkpoint of step {newest}" in told
    assert_same_result(copy.run, undisturbed)
    assert json.loads((copy.run / "run.json").read_text())["attempts"] == 2


def test_11_the_disk_is_full_during_a_save(world: World, undisturbed: Path) -> None:
    """What was saved stays, the half-written one goes, and the run ends by the code of storage."""
    world.spec(sleep_s=0.05)
    with inject.disk(world.folder / "disk", "size=24m") as disk:
        world.run = disk / "run"
        with world.start() as started:
            inject.wait_for(lambda: len(inject.checkpoints(world.run)) > 1, *started.processes)
            filler = inject.fill(disk)
            ended = started.ended()
        assert [one.code for one in ended] == [5, 5], ended[0].err
        assert "no space is left" in ended[0].err
        assert "Traceback" not in ended[0].err
        assert checkpoint_steps(world.run)
        assert inject.in_save(world.run) == []
        filler.unlink()
        world.finish()
        assert_same_result(world.run, undisturbed)


def test_12_a_run_directory_that_cannot_be_written(world: World) -> None:
    """Known before training, with what to do about it."""
    world.spec()
    with inject.disk(world.folder / "disk", "ro,size=64m") as disk:
        world.run = disk / "run"
        ended = world.train()
    assert [one.code for one in ended] == [5, 5], ended[0].err
    assert "read-only" in ended[0].err.lower()
    assert "next:" in ended[0].err
    assert not world.places.exists(), "nothing was trained"
