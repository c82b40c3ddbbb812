"""The store's protocol: commit, restore, retention, leftovers, refusals.

The checkpoints here have host state only, so that no TensorFlow is needed; those with tensors
are in ``tests/local/test_checkpoint_tensors.py``.
"""

from __future__ import annotations

import os
import stat

import pytest
from checkpoint_helpers import flip_bit, names, new_store

from harness.checkpoint import DamagedCheckpoint
from harness.checkpoint.leftovers import discard_later
from harness.errors import ExitCode, StorageError
from tests.unit.checkpoint_store_helpers import steps


def test_what_was_saved_is_restored(tmp_path):
    store, said = new_store(tmp_path / "a" / "checkpoints")
    state = {"epoch": 3, "best": {"value": 0.5, "step": None}}
    path = store.save(1200, {}, state, metrics={"val_loss": 0.25})
    assert path == tmp_path / "a" / "checkpoints" / "step-00001200"
    restored = store.restore()
    assert (restored.step, restored.path, restored.state) == (1200, path, state)
    assert (restored.metrics, restored.tensors, restored.skipped) == ({"val_loss": 0.25}, {}, ())
    assert names(store.folder) == ["step-00001200"] and said == []


def test_those_after_a_step_go_where_a_run_goes_back_to_it(tmp_path):
    store, said = new_store(tmp_path)
    for step in (1, 2, 3):
        store.save(step, {}, {})
    (tmp_path / ".tmp-other-1-ab").mkdir()
    discard_later(tmp_path, 1, said.append)
    assert steps(store) == [1]
    assert said == [f"removing step-0000000{n}: training went back to before it" for n in (2, 3)]
    discard_later(tmp_path / "none", 1, said.append)
    assert len(said) == 2 and (tmp_path / ".tmp-other-1-ab").exists()


def test_without_any_checkpoint_restore_gives_none(tmp_path):
    store, _ = new_store(tmp_path / "checkpoints")
    assert store.restore() is None
    store.folder.mkdir()
    assert store.restore() is None and store.list() == [] and store.sweep() == []


def test_a_step_is_restored_exactly_or_not_at_all(tmp_path):
    store, _ = new_store(tmp_path)
    for step in (1, 2, 3):
        store.save(step, {}, {"at": step})
    assert store.restore(2).state == {"at": 2}
    with pytest.raises(DamagedCheckpoint, match=r"no checkpoint of step 4.*1, 2, 3"):
        store.restore(4)
    flip_bit(tmp_path / "step-00000002" / "state.json", 0)
    with pytest.raises(DamagedCheckpoint, match=r"state\.json"):
        store.restore(2)


DAMAGES = {
    "state truncated": lambda path: os.truncate(path / "state.json", 1),
    "state empty": lambda path: os.truncate(path / "state.json", 0),
    "state gone": lambda path: (path / "state.json").unlink(),
    "state bit": lambda path: flip_bit(path / "state.json", 5),
    "manifest truncated": lambda path: os.truncate(path / "manifest.json", 50),
    "manifest empty": lambda path: os.truncate(path / "manifest.json", 0),
    "manifest gone": lambda path: (path / "manifest.json").unlink(),
    "manifest garbage": lambda path: (path / "manifest.json").write_bytes(b"\xff\x00{"),
    "manifest is a folder": lambda path: (
        (path / "manifest.json").unlink(),
        (path / "manifest.json").mkdir(),
    ),
    "all gone": lambda path: [file.unlink() for file in path.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_said_and_the_one_before_used(tmp_path, damage):
    store, said = new_store(tmp_path)
    for step in (1, 2, 3):
        store.save(step, {}, {"at": step})
    DAMAGES[damage](tmp_path / "step-00000003")
    restored = store.restore()
    assert restored.state == {"at": 2}
    assert [(one.step, one.path.name) for one in restored.skipped] == [(3, "step-00000003")]
    assert len(said) == 1 and "step-00000003 skipped" in said[0]


def test_when_none_verifies_it_is_an_error_and_never_none(tmp_path):
    store, said = new_store(tmp_path)
    for step in (1, 2):
        store.save(step, {}, {})
        flip_bit(tmp_path / f"step-0000000{step}" / "state.json", 3)
    with pytest.raises(StorageError, match="does not start over") as caught:
        store.restore()
    assert caught.value.exit_code == ExitCode.STORAGE
    assert "step-00000001" in str(caught.value) and "step-00000002" in str(caught.value)
    assert len(said) == 2


def test_the_newest_and_the_asked_for_stay(tmp_path):
    store, _ = new_store(tmp_path, keep=2)
    for step in range(1, 7):
        store.save(step, {}, {}, keep_steps={2, 99} if step > 2 else set())
    assert steps(store) == [2, 5, 6]
    store.save(7, {}, {})
    assert steps(store) == [6, 7]


def test_damaged_ones_take_no_place_of_good_ones(tmp_path):
    store, said = new_store(tmp_path, keep=2)
    store.save(1, {}, {})
    store.save(2, {}, {})
    flip_bit(tmp_path / "step-00000002" / "state.json", 0)
    assert store.restore().step == 1
    store.save(3, {}, {})
    assert steps(store) == [1, 3]
    assert any("step-00000002: it is damaged" in line for line in said)


def test_after_going_back_later_checkpoints_are_never_the_newest_again(tmp_path):
    store, said = new_store(tmp_path, keep=3)
    for step in (10, 20, 30):
        store.save(step, {}, {"course": "first"})
    assert store.restore(10).step == 10
    store.save(15, {}, {"course": "second"}, keep_steps={30})
    assert steps(store) == [10, 15]
    assert store.restore().state == {"course": "second"}
    assert sum("went back" in line for line in said) == 2


def test_the_same_step_saved_again_replaces_the_old_one(tmp_path):
    store, _ = new_store(tmp_path)
    store.save(5, {}, {"n": 1})
    store.save(5, {}, {"n": 2})
    assert store.restore().state == {"n": 2}
    assert names(tmp_path) == ["step-00000005"]


@pytest.mark.parametrize(
    ("step", "state", "error"),
    [
        (-1, {}, ValueError),
        (True, {}, ValueError),
        (1.0, {}, ValueError),
        (1, {"a": (1,)}, TypeError),
        (1, None, TypeError),
    ],
)
def test_what_cannot_come_back_is_refused_before_anything_is_written(tmp_path, step, state, error):
    store, _ = new_store(tmp_path / "checkpoints")
    with pytest.raises(error):
        store.save(step, {}, state)
    assert not (tmp_path / "checkpoints").exists()


def test_keep_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1, was 0"):
        new_store(tmp_path, keep=0)


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize(
    ("access", "folder_mode", "file_mode"), [("private", 0o700, 0o600), ("group", 0o2770, 0o660)]
)
def test_modes_are_those_of_access_whatever_the_umask(
    tmp_path, access, folder_mode, file_mode, umask
):
    before = os.umask(umask)
    try:
        store, _ = new_store(tmp_path / "checkpoints", access=access)
        path = store.save(1, {}, {})
    finally:
        os.umask(before)
    for folder in (store.folder, path):
        assert stat.S_IMODE(folder.stat().st_mode) == folder_mode
    for file in path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == file_mode
