"""The fence: who began last writes, and nobody else."""

from __future__ import annotations

import os

import pytest
from checkpoint_helpers import names, new_store

from harness.errors import ExitCode, FencedOff, StorageError
from harness.observe.pulse import Heartbeat
from harness.observe.writers import MemoryWriter, MultiWriter
from harness.runs.attempts import begin_attempt, end_attempt, note_roll_back, read_attempts
from harness.runs.fence import Fence
from harness.runs.heartbeat import read_heartbeat
from tests.unit.runs_helpers import make_run


@pytest.fixture
def paths(tmp_path):
    return make_run(tmp_path)


def fence_of_new(paths):
    return Fence(paths, begin_attempt(paths, {}))


def test_the_newest_attempt_may_write_and_the_one_before_not_any_more(paths):
    old = fence_of_new(paths)
    old.check()
    new = fence_of_new(paths)
    new.check()
    with pytest.raises(FencedOff) as caught:
        old.check()
    assert caught.value.exit_code == ExitCode.USAGE
    said = str(caught.value)
    assert "taken over from attempt 1" in said and f"attempt 2 of process {os.getpid()}" in said
    for _ in range(2):  # for good
        with pytest.raises(FencedOff):
            old.check()


def test_what_is_noted_of_itself_and_of_earlier_ones_is_no_reason(paths):
    begin_attempt(paths, {})
    fence = fence_of_new(paths)
    end_attempt(paths, 1, "interrupted", 0, 3, "the batch script says it late")
    note_roll_back(paths, 1, 3)
    fence.check()
    end_attempt(paths, 2, "stopped", 3, 5)
    fence.check()
    assert fence.newer() is None


def test_a_torn_line_of_the_other_is_not_an_attempt_yet(paths):
    fence = fence_of_new(paths)
    with paths.attempts.open("a") as file:
        file.write('{"attempt": 2, "event": "beg')
    fence.check()


def test_it_reads_again_only_what_has_changed(paths, monkeypatch):
    fence = fence_of_new(paths)
    read = []

    def counted(of):
        read.append(of)
        return read_attempts(of)

    monkeypatch.setattr("harness.runs.fence.read_attempts", counted)
    for _ in range(3):
        fence.check()
    assert len(read) == 1
    end_attempt(paths, 1, "stopped", 0, 1)
    fence.check()
    assert len(read) == 2


def test_a_folder_that_has_gone_is_an_error_of_storage(paths):
    fence = fence_of_new(paths)
    paths.attempts.unlink()
    with pytest.raises(StorageError, match="attempts"):
        fence.check()


def test_a_checkpoint_of_the_old_one_does_not_come_to_its_place(paths):
    old = fence_of_new(paths)
    store, _ = new_store(paths.checkpoints, allowed=old.check)
    store.save(1, {}, {"of": "old"})
    fence_of_new(paths)
    with pytest.raises(FencedOff):
        store.save(2, {}, {"of": "old"})
    assert names(paths.checkpoints) == ["step-00000001"]


def test_one_that_loses_in_the_midst_of_a_save_removes_nothing(paths):
    asked = []

    def once():
        asked.append(True)
        if len(asked) == 2:
            raise FencedOff("another one has begun")

    first, _ = new_store(paths.checkpoints, keep=1)
    first.save(5, {}, {"of": "the new one, which is further"})
    store, _ = new_store(paths.checkpoints, keep=1, allowed=once)
    with pytest.raises(FencedOff):
        store.save(3, {}, {"of": "the old one"})
    assert names(paths.checkpoints) == ["step-00000003", "step-00000005"]


def test_neither_figures_nor_heartbeats_of_the_old_one_are_written(paths):
    old = fence_of_new(paths)
    memory = MemoryWriter()
    writer = MultiWriter([memory], old.check)
    heartbeat = Heartbeat(paths, 1, allowed=old.check)
    fence_of_new(paths)
    with pytest.raises(FencedOff):
        writer.scalars(1, {"loss": 1.0}, split="train", epoch=0, phase="one")
    with pytest.raises(FencedOff):
        heartbeat.beat(now=True, step=1)
    assert memory.records == [] and read_heartbeat(paths) is None
    writer.close()  # what it holds is closed all the same
