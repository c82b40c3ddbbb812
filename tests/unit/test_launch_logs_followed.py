"""Logs of ranks, followed while they grow."""

from __future__ import annotations

import io
import os
import re
import signal
from pathlib import Path

from runs_helpers import finish, python

from harness.errors import ExitCode
from harness.launch.following import Printer, Reader, follow
from harness.launch.watching import watch
from harness.runs.attempts import begin_attempt, end_attempt
from harness.runs.heartbeat import write_heartbeat
from harness.runs.jobs import Job, record_job
from harness.runs.marks import mark_failed
from harness.runs.paths import RunPaths
from tests.unit.logs_helpers import paths, write

__all__ = ["paths"]  # a fixture, found by its name


class TestReader:
    def test_whole_lines_then_the_rest(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        reader = Reader(path)
        assert reader.read() == []
        path.write_bytes(b"one\ntw")
        assert reader.read() == ["one"]
        with path.open("ab") as stream:
            stream.write(b"o\n\xff")
        assert reader.read() == ["two"]
        assert reader.read(last=True) == ["\ufffd"]

    def test_truncated_or_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        path.write_text("a long first line\n")
        reader = Reader(path)
        assert reader.read() == ["a long first line"]
        path.write_text("new\n")
        assert reader.read() == ["new"]
        other = tmp_path / "other"
        other.write_text("another file, and a longer one\n")
        other.replace(path)
        assert reader.read() == ["another file, and a longer one"]


def test_following_over_jobs_and_ranks(paths: RunPaths) -> None:
    record_job(paths, Job("1"))
    record_job(paths, Job("2"))
    write(paths, "1", 0, "out", "old\n")
    write(paths, "2", 0, "out", "a\nb\nc\n")
    turns = iter(
        [
            lambda: write(paths, "2", 1, "out", "late rank\n"),
            lambda: paths.job_log("2", 0, "out").open("a").write("after a requeue\n"),
            lambda: (record_job(paths, Job("3")), write(paths, "3", 0, "out", "new job, no end")),
        ]
    )

    def is_over() -> bool:
        turn = next(turns, None)
        if turn is not None:
            turn()
        return turn is None

    out = io.StringIO()
    follow(paths, Printer(out, prefix=True), is_over, rank=None, lines=2, every_s=0)
    lines = out.getvalue().splitlines()
    assert sorted(lines[:3]) == ["[0] b", "[0] c", "[1] late rank"]
    assert lines[3:] == ["[0] after a requeue", "[0] new job, no end"]


def test_headings_where_the_file_changes(paths: RunPaths) -> None:
    record_job(paths, Job("2"))
    write(paths, "2", 0, "out", "a\nb\n")
    write(paths, "2", 0, "err", "e\n")
    out = io.StringIO()
    follow(paths, Printer(out, prefix=False), lambda: True)
    assert out.getvalue() == "==> 2_0_log.out <==\na\nb\n\n==> 2_0_log.err <==\ne\n"


class TestWatching:
    def watched(self, paths: RunPaths) -> tuple[int, list[str]]:
        lines: list[str] = []
        return watch(paths, say=lines.append, every_s=0.05), lines

    def test_finished(self, paths: RunPaths) -> None:
        finish(paths)
        assert self.watched(paths) == (0, ["finished    step 100/100"])

    def test_failed_with_its_own_code(self, paths: RunPaths) -> None:
        number = begin_attempt(paths, {})
        mark_failed(paths, "no GPU")
        end_attempt(paths, number, "failed", 0, 0, "no GPU", exit_code=3)
        code, lines = self.watched(paths)
        assert code == ExitCode.ENVIRONMENT
        assert "no GPU" in lines[0] and "has failed: no GPU" in lines[-1]

    def test_stopped(self, paths: RunPaths) -> None:
        end_attempt(paths, begin_attempt(paths, {}), "stopped", 0, 10, "SIGTERM")
        assert self.watched(paths) == (75, ["stopped     SIGTERM"])

    def test_a_process_by_hand_until_it_finishes(self, paths: RunPaths) -> None:
        child = python(PLAY, paths.root)
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        code, lines = self.watched(paths)
        assert child.wait(timeout=60) == 0
        assert code == 0
        assert re.match(r"running +step 1/9, epoch 0 of phase head, loss 0.5, about 7 s", lines[0])
        assert "epoch 1" in lines[1]
        assert lines[-1].startswith("finished")

    def test_on_a_terminal_a_line_moves_and_ctrl_c_says_so(self, paths: RunPaths) -> None:
        import pty

        write_heartbeat(paths, step=1, total_steps=9)
        record_job(paths, Job("1", "local", host="elsewhere"))
        begin_attempt(paths, {"job": "1", "host": "elsewhere"})
        text = paths.heartbeat.read_text()
        paths.heartbeat.write_text(re.sub(r'"host": "[^"]*"', '"host": "elsewhere"', text))
        reading, writing = pty.openpty()
        child = python(WATCH, paths.root, stdout=writing)
        os.close(writing)
        said = b""
        while said.count(b"\x1b[K") < 4:
            said += os.read(reading, 4096)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 130
        try:
            while chunk := os.read(reading, 4096):
                said += chunk
        except OSError:
            pass  # a closed terminal ends with EIO
        os.close(reading)
        assert said.count(b"running") >= 2
        assert b"the run goes on as before" in said


PLAY = """
    import sys, time
    from harness.runs.attempts import begin_attempt, end_attempt
    from harness.runs.heartbeat import write_heartbeat
    from harness.runs.lock import RunLock
    from harness.runs.marks import mark_finished
    from harness.runs.paths import RunPaths

    paths = RunPaths(sys.argv[1])
    with RunLock(paths):
        number = begin_attempt(paths, {})
        for epoch in (0, 1):
            write_heartbeat(paths, step=1 + epoch, total_steps=9, phase="head", epoch=epoch,
                            loss=0.5, eta_s=7)
            if epoch == 0:
                print("held", flush=True)
            time.sleep(2)
        end_attempt(paths, number, "finished", 0, 9)
        mark_finished(paths, attempt=1, step=9, total_steps=9)
"""


WATCH = """
    import os, sys
    os.environ["TERM"] = "xterm"
    from harness.launch.watching import watch
    from harness.runs.paths import RunPaths

    sys.exit(watch(RunPaths(sys.argv[1]), out=sys.stdout, every_s=0.1))
"""
