"""The lock of a run, between real processes."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess

import pytest
from runs_helpers import holding_child, make_run, output_of, python

from harness.errors import UsageError
from harness.runs import lock as lock_module
from harness.runs.clock import utc_now
from harness.runs.heartbeat import write_heartbeat
from harness.runs.lock import RunLock, lock_holder, process_alive, process_start
from harness.runs.paths import RunPaths


@pytest.fixture
def paths(tmp_path) -> RunPaths:
    return make_run(tmp_path)


@pytest.fixture
def holder(paths):
    child = holding_child(paths)
    yield child
    child.kill()
    child.communicate()


def test_a_second_process_is_refused_by_name(paths, holder):
    write_heartbeat(paths, step=120)
    with pytest.raises(UsageError) as caught, RunLock(paths):
        pass
    text = str(caught.value)
    assert f"process {holder.pid} on host {socket.gethostname()}" in text
    assert "at step 120" in text and f"kill {holder.pid}" in text
    assert lock_holder(paths).pid == holder.pid
    assert paths.lock.read_text(), "the refused one must not wipe the name of the holder"


def test_sigkill_frees_the_run(paths, holder):
    holder.kill()
    holder.wait()
    assert json.loads(paths.lock.read_text())["pid"] == holder.pid  # the name is left behind
    assert lock_holder(paths) is None
    with RunLock(paths):
        assert lock_holder(paths).pid == os.getpid()


def test_asking_does_not_drop_our_own_lock(paths):
    # Closing any descriptor of a locked file drops the lock: the trap of POSIX locks.
    ask = """
        import sys
        from harness.runs.lock import lock_holder
        from harness.runs.paths import RunPaths
        print(lock_holder(RunPaths(sys.argv[1])))
    """
    with RunLock(paths):
        for _ in range(2):
            assert lock_holder(paths).pid == os.getpid()
        assert f"process {os.getpid()} " in output_of(python(ask, paths.root))
    assert output_of(python(ask, paths.root)) == "None\n"


def test_twice_in_one_process_is_refused_and_keeps_the_first(paths):
    with RunLock(paths):
        with pytest.raises(UsageError, match=f"process {os.getpid()}"), RunLock(paths):
            pass
        assert lock_holder(paths).pid == os.getpid()
    with RunLock(paths):
        pass  # free again


def test_a_forked_child_neither_holds_nor_frees_it(paths):
    with RunLock(paths) as held:
        child = os.fork()
        if child == 0:
            refused = False
            held.__exit__(None, None, None)  # as when the child leaves the block
            try:
                with RunLock(paths):
                    pass
            except UsageError:
                refused = True
            os._exit(0 if refused else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lock_holder(paths).pid == os.getpid()
        assert json.loads(paths.lock.read_text())["pid"] == os.getpid()


def test_a_started_program_does_not_inherit_it(paths):
    with RunLock(paths):
        child = subprocess.Popen(["sleep", "30"])
    try:
        with RunLock(paths):
            pass
    finally:
        child.kill()
        child.wait()


def test_an_exception_inside_frees_it(paths):
    with pytest.raises(KeyError), RunLock(paths):
        raise KeyError
    assert lock_holder(paths) is None


def test_the_next_holder_sweeps_what_a_killed_one_left(paths):
    left = [paths.root / ".run.json.0badcafe.tmp", paths.slurm / ".outcome-1.json.0badcafe.tmp"]
    for path in left:
        path.write_text("half")
    with RunLock(paths):
        assert not any(path.exists() for path in left)
    assert paths.record.exists()


def test_never_locked_has_no_holder(paths):
    assert lock_holder(paths) is None
    assert not paths.lock.exists(), "asking must not make the file"


class TestWithoutLocks:
    """Lustre without -o flock: every lock call fails with ENOSYS."""

    @pytest.fixture(autouse=True)
    def no_locks(self, monkeypatch):
        def fail(*_args):
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(lock_module.fcntl, "lockf", fail)
        monkeypatch.setattr(lock_module.fcntl, "fcntl", fail)
        monkeypatch.setattr(lock_module, "_SETTLE_S", 0.0)

    def name(self, paths, **changes):
        fields = {
            "host": socket.gethostname(),
            "pid": os.getppid(),
            "since": "2020-01-01T00:00:00.000Z",
            "start": process_start(os.getppid()),
        }
        paths.lock.write_text(json.dumps(fields | changes))

    def test_the_first_one_goes_on_and_says_that_nothing_enforces_it(self, paths):
        with RunLock(paths) as held:
            assert not held.enforced

    @pytest.mark.parametrize(
        ("changes", "beat_age_days", "refused"),
        [
            ({}, None, True),  # its process is there
            ({"pid": 2**22 + 1}, 0, False),  # it is gone, whatever the heartbeat says
            ({"start": "another boot:1"}, 0, False),  # the id is used by another process now
            ({"host": "other"}, 0, True),
            ({"host": "other"}, 1, False),
            ({"host": "other"}, None, False),
            ({"host": "other", "since": "now"}, None, True),  # started, no heartbeat yet
        ],
    )
    def test_name_and_heartbeat_decide(self, paths, changes, beat_age_days, refused, monkeypatch):
        if changes.get("since") == "now":
            changes = {**changes, "since": utc_now()}
        self.name(paths, **changes)
        if beat_age_days is not None:
            write_heartbeat(paths, step=1)
            if beat_age_days:
                old = json.loads(paths.heartbeat.read_text()) | {"time": "2020-01-01T00:00:00Z"}
                paths.heartbeat.write_text(json.dumps(old))
        assert (lock_holder(paths) is not None) == refused
        if refused:
            with pytest.raises(UsageError, match="another process"), RunLock(paths):
                pass
        else:
            with RunLock(paths):
                pass

    def test_of_two_at_once_the_one_that_spoke_last_stays(self, paths, monkeypatch):
        def the_other_speaks(_seconds):
            self.name(paths, host="other", since=utc_now())

        monkeypatch.setattr(lock_module.time, "sleep", the_other_speaks)
        with pytest.raises(UsageError, match="on host other"), RunLock(paths):
            pass
        assert json.loads(paths.lock.read_text())["host"] == "other"

    def test_the_name_of_one_that_has_taken_over_stays(self, paths):
        with RunLock(paths):
            self.name(paths, host="other", since=utc_now())
        assert json.loads(paths.lock.read_text())["host"] == "other"

    def test_leaving_takes_the_name_off(self, paths):
        with RunLock(paths):
            assert json.loads(paths.lock.read_text())["pid"] == os.getpid()
        assert paths.lock.read_text() == ""
        assert lock_holder(paths) is None


def test_refused_by_another_host(paths, holder, monkeypatch):
    name = json.loads(paths.lock.read_text()) | {"host": "n17"}
    # Written by its own process in life; here a child of ours may stand in for it.
    code = """
        import sys
        from pathlib import Path
        Path(sys.argv[1]).write_text(sys.argv[2])
    """
    output_of(python(code, paths.lock, json.dumps(name)))
    with pytest.raises(UsageError, match=f"process {holder.pid} on host n17.*ssh n17 kill"):
        RunLock(paths).__enter__()


def test_process_alive():
    child = subprocess.Popen(["true"])
    child.wait()
    assert process_alive(os.getpid()) and process_alive(1)
    assert not process_alive(child.pid)
    assert process_start(os.getpid()) not in (None, process_start(1))
