"""Checkpoints through kills, full disks and folders that cannot be written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from checkpoint_helpers import make_read_only, names, new_store, small_disk
from rights import need_root

from harness.checkpoint import leftovers
from harness.errors import ExitCode, StorageError
from tests.unit.checkpoint_store_helpers import steps


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
