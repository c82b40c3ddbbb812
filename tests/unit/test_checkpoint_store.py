"""The store's protocol: commit, restore, retention, leftovers, refusals.

The checkpoints here have host state only, so that no TensorFlow is needed; those with tensors
are in ``tests/local/test_checkpoint_tensors.py``.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from checkpoint_helpers import flip_bit, make_read_only, names, new_store, small_disk
from rights import need_root

from harness.checkpoint import DamagedCheckpoint, Store, leftovers
from harness.errors import ExitCode, StorageError


def steps(store: Store) -> list[int]:
    """Steps of the checkpoints that are there."""
    return [info.step for info in store.list()]


def test_what_was_saved_is_restored(tmp_path):
    store, said = new_store(tmp_path / "a" / "checkpoints")
    state = {"epoch": 3, "best": {"value": 0.5, "step": None}}
    path = store.save(1200, {}, state, metrics={"val_loss": 0.25})
    assert path == tmp_path / "a" / "checkpoints" / "step-00001200"
    restored = store.restore()
    assert (restored.step, restored.path, restored.state) == (1200, path, state)
    assert (restored.metrics, restored.tensors, restored.skipped) == ({"val_loss": 0.25}, {}, ())
    assert names(store.folder) == ["step-00001200"] and said == []


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


class Killed(BaseException):
    """Stands for SIGKILL: whatever runs after it is undone by the test."""


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_kill_while_a_step_is_replaced_loses_neither(tmp_path, monkeypatch, at):
    """The n-th rename never happens and nothing after it does."""
    store, _ = new_store(tmp_path)
    store.save(5, {}, {"n": 1})
    done = []
    really = Path.rename

    def rename(source: Path, target: Path) -> None:
        done.append(source)
        if len(done) >= at:
            raise Killed
        really(source, target)

    # The clean-up of a live process must not run either, a killed one has none.
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr("harness.checkpoint.store.shutil.rmtree", lambda *a, **k: None)
    with pytest.raises(Killed):
        store.save(5, {}, {"n": 2})
    monkeypatch.undo()
    after, _ = new_store(tmp_path)
    expected = {"n": 2} if at == 3 else {"n": 1}
    assert after.restore().state == expected
    # A new process of this host sweeps; the temporary carries our own, living, process id.
    for path in tmp_path.glob(".tmp-*"):
        path.rename(tmp_path / f".tmp-{socket.gethostname()}-{dead_pid()}-ab")
    after.sweep()
    assert names(tmp_path) == ["step-00000005"]
    assert after.restore().state == expected


def dead_pid() -> int:
    """Id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_sweep_removes_leftovers_of_the_dead_and_the_old_only(tmp_path):
    store, said = new_store(tmp_path)
    store.save(1, {}, {})
    host, old = socket.gethostname(), time.time() - 2 * leftovers.OLD_S
    made = {
        f".tmp-{host}-{dead_pid()}-aa": True,
        f".tmp-{host}-{os.getpid()}-bb": False,
        f".tmp-{host}-1-bb": False,
        ".tmp-other-host-77-cc": False,
        ".tmp-other-host-77-dd": "old",
        ".tmp-other-host-77-ee": "old, but its file is young",
        ".trash-step-00000001-ff": True,
        ".replaced-step-00000001-aa": True,
        ".other": False,
        "notes.txt": False,
    }
    for name, fate in made.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "tensors.data").write_text("x")
        if isinstance(fate, str):
            os.utime(tmp_path / name, (old, old))
        if fate == "old":
            os.utime(tmp_path / name / "tensors.data", (old, old))
            os.utime(tmp_path / name, (old, old))
    gone = {name for name, fate in made.items() if fate is True or fate == "old"}
    assert {path.name for path in store.sweep()} == gone
    assert set(names(tmp_path)) == (set(made) - gone) | {"step-00000001"}
    assert len(said) == len(gone)
    assert list(store.sweep()) == []


def test_a_checkpoint_moved_aside_is_found_and_gets_its_name_back(tmp_path):
    store, said = new_store(tmp_path)
    store.save(4, {}, {"n": 4})
    (tmp_path / "step-00000004").rename(tmp_path / ".replaced-step-00000004-0a")
    assert store.restore().state == {"n": 4}
    assert list(store.sweep()) == []
    assert names(tmp_path) == ["step-00000004"] and "is kept" in said[0]


def test_what_cannot_be_removed_is_said_and_the_save_stands(tmp_path, monkeypatch):
    store, said = new_store(tmp_path, keep=1)
    store.save(1, {}, {})

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("harness.checkpoint.leftovers.shutil.rmtree", refuse)
    store.save(2, {}, {})
    assert steps(store) == [2]
    assert any("could not be deleted yet" in line for line in said)
    monkeypatch.undo()
    assert len(store.sweep()) == 1
    assert names(tmp_path) == ["step-00000002"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    store, _ = new_store(tmp_path)
    store.save(1, {}, {"n": 1})
    monkeypatch.setattr(
        "harness.checkpoint.store.write_atomic",
        lambda path, data: (_ for _ in ()).throw(OSError(122, "Disk quota exceeded")),
    )
    with pytest.raises(StorageError, match="quota"):
        store.save(2, {}, {"n": 2})
    with pytest.raises(StorageError):
        store.save(1, {}, {"n": 2})
    assert names(tmp_path) == ["step-00000001"] and store.restore().state == {"n": 1}


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


def test_a_full_disk_is_told_and_the_old_checkpoint_kept(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        store, _ = new_store(disk / "checkpoints")
        store.save(1, {}, {"n": 1})
        with pytest.raises(StorageError, match="no space is left") as caught:
            store.save(2, {}, {"blob": "x" * 1_000_000})
        assert caught.value.exit_code == ExitCode.STORAGE
        assert names(store.folder) == ["step-00000001"]
        assert store.restore().state == {"n": 1}
        store.save(2, {}, {"n": 2})
        assert store.restore().state == {"n": 2}


def test_a_read_only_disk_is_told_and_can_still_be_restored_from(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        store, _ = new_store(disk / "checkpoints")
        store.save(1, {}, {"n": 1})
        make_read_only(disk)
        with pytest.raises(StorageError, match="read-only"):
            store.save(2, {}, {"n": 2})
        assert store.restore().state == {"n": 1}
        assert list(store.sweep()) == []


AS_NOBODY = """
import os, sys
from pathlib import Path
from harness.checkpoint import Store
from harness.errors import StorageError
os.setgid(65534)
os.setuid(65534)
try:
    Store(Path(sys.argv[1]) / "checkpoints", keep=1, access="private", log=print).save(1, {}, {})
except StorageError as error:
    sys.exit(0 if "not permitted" in str(error) else str(error))
sys.exit("it could be written")
"""


def test_a_folder_that_may_not_be_written_is_told():
    """As another user, since root may write anywhere."""
    need_root()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
