"""Moving a run: equal after, whole before, in one place at every moment between."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from rights import lacking, mount_tmpfs, needs_root
from runs_helpers import finish, holding_child, make_run, names_in, output_of, python

from harness.errors import StorageError, UsageError
from harness.runs import move as move_module
from harness.runs.files import write_atomic
from harness.runs.heartbeat import write_heartbeat
from harness.runs.lock import RunLock
from harness.runs.move import move_run
from harness.runs.paths import RunPaths
from harness.runs.state import run_state


def contents(root: Path) -> dict[str, tuple]:
    """Type, mode, content or link of everything in a run but its lock."""
    found = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        body = None
        if stat.S_ISLNK(facts.st_mode):
            body = os.readlink(path)  # noqa: PTH115
        elif stat.S_ISREG(facts.st_mode):
            body = (path.read_bytes(), facts.st_mtime_ns)
        if path.name != ".lock":
            found[str(path.relative_to(root))] = (stat.filemode(facts.st_mode), body)
    return found


@pytest.fixture
def run(tmp_path) -> RunPaths:
    """A finished run with a checkpoint, a larger file, an empty one and a relative link."""
    paths = make_run(tmp_path / "runs")
    finish(paths)
    step = paths.checkpoint(100)
    step.mkdir(mode=0o700)
    write_atomic(step / "weights", os.urandom(3_000_000))
    write_atomic(paths.metrics, "")
    (paths.checkpoints / "best").symlink_to(step.name)
    os.utime(paths.record, ns=(10**18, 10**18 + 7))
    return paths


@pytest.fixture(params=["rename", "copy"])
def way(request, monkeypatch):
    if request.param == "copy":
        monkeypatch.setattr(move_module, "_on_one_file_system", lambda *_: False)
    return request.param


@pytest.fixture
def copying(monkeypatch):
    monkeypatch.setattr(move_module, "_on_one_file_system", lambda *_: False)


def test_a_moved_run_is_equal_and_in_one_place(run, tmp_path, way):
    before, state = contents(run.root), run_state(run)
    moved = move_run(run, tmp_path / "archive")
    assert contents(moved.target) == before
    assert run_state(RunPaths(moved.target)) == state
    assert moved.copied == (way == "copy") and moved.files >= len(before)
    assert names_in(run.root.parent) == [], "neither the source nor a leftover"
    assert names_in(tmp_path) == ["archive", "runs"]


def test_across_real_file_systems(run):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shm:
        if Path(shm).stat().st_dev == run.root.stat().st_dev:
            lacking("/dev/shm is no file system of its own: mount a tmpfs there")
        before = contents(run.root)
        moved = move_run(run, Path(shm) / "run")
        assert moved.copied and contents(moved.target) == before
        assert names_in(run.root.parent) == [] and names_in(Path(shm)) == ["run"]


@needs_root
@pytest.mark.parametrize("access", ["private", "group"])
def test_the_group_of_a_setgid_target_is_taken(tmp_path, way, access):
    paths = make_run(tmp_path / "runs", access=access)
    finish(paths)
    project = tmp_path / "project"
    project.mkdir()
    os.chown(project, 0, 4321)
    project.chmod(0o2770)
    target = move_run(paths, project / "run").target
    everything = [target, *target.rglob("*")]
    assert {path.lstat().st_gid for path in everything} == {4321}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in everything if path.is_dir()}
    files = {stat.S_IMODE(path.stat().st_mode) for path in everything if path.is_file()}
    expected = (0o2700, 0o600) if access == "private" else (0o2770, 0o660)
    assert (folders, files) == ({expected[0]}, {expected[1]})


@needs_root
def test_a_group_run_keeps_its_bits_where_the_target_has_none(tmp_path, way):
    paths = make_run(tmp_path / "runs", access="group")
    target = move_run(paths, tmp_path / "run").target
    assert stat.S_IMODE(target.stat().st_mode) == 0o2770
    assert stat.S_IMODE((target / "run.json").stat().st_mode) == 0o660


def test_a_running_run_is_refused(run, tmp_path, way):
    run.finished.unlink()
    child = holding_child(run)
    before = contents(run.root)
    try:
        with pytest.raises(UsageError, match=f"process {child.pid}"):
            move_run(run, tmp_path / "archive")
    finally:
        child.kill()
        child.communicate()
    assert contents(run.root) == before and not (tmp_path / "archive").exists()


def test_a_finished_run_whose_process_still_leaves_is_refused(run, tmp_path, way):
    with RunLock(run), pytest.raises(UsageError, match="another process works"):
        move_run(run, tmp_path / "archive")


def test_a_run_that_another_host_seems_to_train_is_refused(run, tmp_path):
    run.finished.unlink()
    write_heartbeat(run, step=3)
    run.heartbeat.write_text(run.heartbeat.read_text().replace('"host": "', '"host": "n'))
    run.attempts.write_text('{"attempt": 1, "event": "begin"}\n')
    run.outcome(1).unlink()
    with pytest.raises(UsageError, match="the run is running"):
        move_run(run, tmp_path / "archive")


def test_the_run_stays_locked_while_it_is_copied(run, tmp_path, copying, monkeypatch):
    # The lock file must not be read by the copy: closing it would drop the lock.
    ask = """
        import sys
        from harness.runs.lock import lock_holder
        from harness.runs.paths import RunPaths
        print(lock_holder(RunPaths(sys.argv[1])) is not None)
    """
    seen = []
    remove = move_module._remove
    monkeypatch.setattr(
        move_module,
        "_remove",
        lambda *args: (seen.append(output_of(python(ask, run.root))), remove(*args)),
    )
    move_run(run, tmp_path / "archive")
    assert seen == ["True\n"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t, r: (t / "archive").mkdir(), "is there already"),
        (lambda t, r: (t / "archive").touch(), "is there already"),
        (lambda t, r: (t / "archive").symlink_to("nowhere"), "is there already"),
        (lambda t, r: os.mkfifo(r.root / "pipe"), "neither file, folder nor link"),
        (lambda t, r: r.record.unlink(), "run.json is missing"),
    ],
)
def test_refused_with_nothing_done(run, tmp_path, way, make, words):
    make(tmp_path, run)
    left = names_in(run.root)
    with pytest.raises((UsageError, StorageError), match=words):
        move_run(run, tmp_path / "archive")
    assert set(names_in(run.root)) - {".lock"} == set(left) - {".lock"}


@pytest.mark.parametrize(
    ("target", "words"),
    [("no/such/parent", "is no folder"), ("runs/textures/{id}/inside", "inside the run itself")],
)
def test_places_that_cannot_be(run, tmp_path, target, words):
    with pytest.raises(UsageError, match=words):
        move_run(run, tmp_path / target.format(id=run.root.name))
    assert run.record.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("after", [0, 3, 6])
def test_interrupted_in_the_copy_leaves_the_source_whole(
    run, tmp_path, copying, monkeypatch, error, after
):
    before, copy, done = contents(run.root), move_module._copy_file, []

    def failing(source, made):
        if len(done) == after:
            raise error
        done.append(copy(source, made))

    monkeypatch.setattr(move_module, "_copy_file", failing)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else StorageError):
        move_run(run, tmp_path / "archive")
    assert contents(run.root) == before
    assert names_in(tmp_path) == ["runs"]


def test_killed_in_the_copy_then_moved_again(run, tmp_path):
    code = """
        import os, signal, sys
        from pathlib import Path
        from harness.runs import move
        from harness.runs.paths import RunPaths

        move._on_one_file_system = lambda *_: False
        move.sha256_file = lambda path: os.kill(os.getpid(), signal.SIGKILL)
        move.move_run(RunPaths(sys.argv[1]), Path(sys.argv[2]))
    """
    before = contents(run.root)
    child = python(code, run.root, tmp_path / "archive")
    child.communicate(timeout=60)
    assert child.returncode == -9
    assert contents(run.root) == before
    assert names_in(tmp_path) == [".archive.moving.tmp", "runs"]
    move_module_copy = move_module._on_one_file_system
    move_module._on_one_file_system = lambda *_: False
    try:
        target = move_run(run, tmp_path / "archive").target
    finally:
        move_module._on_one_file_system = move_module_copy
    assert contents(target) == before and names_in(tmp_path) == ["archive", "runs"]


def test_a_copy_that_is_not_equal_is_found(run, tmp_path, copying, monkeypatch):
    before, real = contents(run.root), move_module.sha256_file

    def flipped(path):
        if path.name == "weights":  # one bit that the storage lost
            raw = bytearray(path.read_bytes())
            raw[1234] ^= 1
            path.write_bytes(raw)
        return real(path)

    monkeypatch.setattr(move_module, "sha256_file", flipped)
    with pytest.raises(StorageError, match=r"weights: the copy is not equal"):
        move_run(run, tmp_path / "archive")
    assert contents(run.root) == before and names_in(tmp_path) == ["runs"]


def test_too_little_space_is_said_before_anything_is_copied(run, tmp_path, copying):
    small = tmp_path / "small"
    small.mkdir()
    mount_tmpfs(small, "size=256k")
    try:
        with pytest.raises(StorageError, match=r"almost full.*free, 3\.. MB needed"):
            move_run(run, small / "archive")
        assert names_in(small) == [] and run.record.exists()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_source_that_cannot_be_deleted_is_told_with_the_copy_whole(
    run, tmp_path, copying, monkeypatch
):
    before = contents(run.root)

    def refuse(path, *_args, **_more):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(move_module.shutil, "rmtree", refuse)
    with pytest.raises(StorageError, match=r"whole in .*archive.*rm -r") as caught:
        move_run(run, tmp_path / "archive")
    assert "Permission denied" in str(caught.value)
    assert contents(tmp_path / "archive") == before and not run.root.exists()
