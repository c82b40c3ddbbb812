"""Ranks as real processes: killed, never started, failing, and two starts on one machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.distribute.meeting import SECRET, meeting_key, meeting_ports
from harness.distribute.sockets import hold_port, listen
from harness.distribute.topology import Topology

PROGRAM = Path(__file__).with_name("gang_rank.py")
WAIT_S = 90.0
"""For what comes at once, on a machine that is busy with other things."""


class Process:
    """A rank and the lines it prints."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, str(PROGRAM), *words],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._changed:
                self.lines.append(json.loads(line))
                self._changed.notify_all()

    def told(self, key: str) -> Any:
        """What the rank prints under ``key``, as soon as it does."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines if key in line]

        with self._changed:
            if not self._changed.wait_for(found, WAIT_S):
                pytest.fail(f"no {key!r} in {self.lines}")
            return found()[0][key]

    def ended(self) -> int:
        code = self.popen.wait(WAIT_S)
        self._thread.join(WAIT_S)
        assert self.popen.stderr is not None
        assert "Traceback" not in self.popen.stderr.read()
        return code


class Start:
    """One start of a job of ``size`` ranks on this machine."""

    def __init__(self, job: str, size: int, **environment: str) -> None:
        self.job, self.size, self.environment = job, size, environment
        self.processes: list[Process] = []

    def variables(self, rank: int) -> dict[str, str]:
        return {
            "SUBMITIT_LOCAL_GLOBALID": str(rank),
            "SUBMITIT_LOCAL_NTASKS": str(self.size),
            "SUBMITIT_LOCAL_JOB_ID": self.job,
            **self.environment,
        }

    def ports(self) -> tuple[int, ...]:
        variables = self.variables(0)
        return meeting_ports(meeting_key(Topology.from_environment(variables), variables, None))

    def rank(self, rank: int, action: str = "stay", wait_s: float = WAIT_S) -> Process:
        process = Process(self.variables(rank), str(wait_s), *action.split())
        self.processes.append(process)
        return process

    def met(self, *actions: str) -> list[Process]:
        found = [self.rank(rank, action) for rank, action in enumerate(actions)]
        for process in found:
            assert len(process.told("met")) == self.size
        return found

    def end(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
            for pipe in (process.popen.stdout, process.popen.stderr):
                assert pipe is not None
                with contextlib.suppress(ValueError):
                    pipe.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made = Start(str(tmp_path), 4)
    yield made
    made.end()


@pytest.mark.parametrize("killed", [1, 3])
def test_all_others_know_who_was_killed(start: Start, killed: int) -> None:
    processes = start.met(*["stay"] * 4)
    processes[killed].popen.send_signal(signal.SIGKILL)
    pid = processes[killed].popen.pid
    for process in processes:
        if process is not processes[killed]:
            lost = process.told("lost")
            assert (lost["rank"], lost["message"]) == (killed, None)
            assert f"pid {pid}" in lost["name"]
            assert process.ended() == 1


def test_all_others_know_that_rank_0_was_killed(start: Start) -> None:
    processes = start.met(*["stay"] * 4)
    processes[0].popen.send_signal(signal.SIGKILL)
    for process in processes[1:]:
        lost = process.told("lost")
        assert lost["rank"] == 0
        assert f"pid {processes[0].popen.pid}" in lost["name"]
        assert process.ended() == 1


def test_a_rank_that_stands_still_is_not_lost(start: Start) -> None:
    """That is a matter of a watchdog: it may go on."""
    start.size = 2
    first, second = start.met("stay", "stay")
    second.popen.send_signal(signal.SIGSTOP)
    third = Start(f"{start.job}-other", 2)
    try:
        for process in third.met("leave", "leave"):  # some time passes
            assert process.ended() == 0
    finally:
        third.end()
    assert first.popen.poll() is None
    assert not any("lost" in line for line in first.lines)
    second.popen.send_signal(signal.SIGCONT)
    second.popen.send_signal(signal.SIGKILL)
    assert first.told("lost")["rank"] == 1


def test_a_rank_that_fails_says_why_and_is_heard_by_all(start: Start) -> None:
    processes = start.met("stay", "stay", "fail no such picture", "stay")
    for process in (processes[0], processes[1], processes[3]):
        assert process.told("lost")["message"] == "no such picture"
        assert process.told("lost")["exit_code"] == 4
        assert process.told("words").endswith("failed: no such picture")
        assert process.ended() == 1
    assert processes[2].told("reported")
    assert processes[2].ended() == 4


def test_a_rank_that_never_starts_is_named_by_all_others(start: Start) -> None:
    processes = [start.rank(rank, wait_s=4.0) for rank in (0, 1, 3)]
    for process in processes:
        assert "rank 2 did not come within 4 s" in process.told("error")
        assert process.ended() == 3


def test_a_rank_0_that_never_starts_is_named_by_all_others(start: Start) -> None:
    processes = [start.rank(rank, wait_s=1.0) for rank in (1, 2)]
    for process in processes:
        assert "did not find rank 0" in process.told("error")
        assert process.ended() == 3


def test_all_leave_together(start: Start) -> None:
    for process in start.met(*["leave"] * 4):
        assert process.told("left") is True
        assert process.ended() == 0


def test_strangers_at_the_port_are_passed_by(start: Start) -> None:
    """One has the first port before rank 0; others come to rank 0's own."""
    ports = start.ports()
    with listen(ports[:1], everywhere=False) as service:
        threading.Thread(target=_greet_all, args=(service,), daemon=True).start()
        first = start.rank(0)
        strangers = [_listening(ports[1]) for _ in range(3)]
        strangers[0].sendall(b"\x16\x03\x01" + b"\0" * 500)
        strangers[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
        processes = [first, *(start.rank(rank, "leave") for rank in (1, 2, 3))]
        for process in processes:
            assert len(process.told("met")) == 4
        service.shutdown(socket.SHUT_RDWR)
        for stranger in strangers:
            stranger.close()


def _greet_all(service: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            came, _ = service.accept()
            with came:
                came.sendall(b"SSH-2.0-somebody\r\n")


def _listening(port: int) -> socket.socket:
    """A connection to the port as soon as somebody listens there."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except ConnectionRefusedError:
            assert time.monotonic() < end, f"nobody listens at {port}"
            time.sleep(0.02)


def test_two_starts_on_one_machine_do_not_meet(start: Start) -> None:
    """As two jobs on a node, and as two that differ in their secret alone."""
    starts = [
        Start(start.job, 2, GANG_OF="a"),
        Start(f"{start.job}-b", 2, GANG_OF="b"),
        Start(start.job, 2, GANG_OF="c", **{SECRET: "c"}),
    ]
    try:
        found = [[one.rank(rank, "leave") for rank in range(2)] for one in starts]
        for one, processes in zip(starts, found, strict=True):
            for process in processes:
                facts = [member["facts"] for member in process.told("met")]
                assert [fact["of"] for fact in facts] == [one.environment["GANG_OF"]] * 2
                assert process.ended() == 0
    finally:
        for one in starts:
            one.end()


def test_two_starts_that_try_the_same_port_first(start: Start) -> None:
    start.size = 2
    port = start.ports()[0]
    names = (f"{start.job}-{number}" for number in itertools.count())
    other = next(one for one in (Start(name, 2) for name in names) if one.ports()[0] == port)
    try:
        firsts = [one.rank(0, "leave") for one in (start, other)]
        seconds = [one.rank(1, "leave") for one in (start, other)]
        for first, second in zip(firsts, seconds, strict=True):
            pids = [member["pid"] for member in second.told("met")]
            assert pids == [first.popen.pid, second.popen.pid]
            assert first.ended() == second.ended() == 0
    finally:
        other.end()


GRPC = """
import json, os, sys
port, held = int(sys.argv[1]), int(sys.argv[2])
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
server = tf.distribute.Server({"worker": [f"127.0.0.1:{port}"]}, job_name="worker", task_index=0)
os.close(held)
with tf.device("/job:worker/task:0"):
    with tf.compat.v1.Session(server.target, graph=tf.Graph()) as session:
        print(json.dumps(server.target))
"""


def test_tensorflows_server_takes_a_held_port_while_it_is_held() -> None:
    held, port = hold_port()
    with held:
        words = [sys.executable, "-c", GRPC, str(port), str(held.fileno())]
        done = subprocess.run(
            words,
            pass_fds=[held.fileno()],
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == f"grpc://127.0.0.1:{port}"
