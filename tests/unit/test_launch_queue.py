"""How SLURM's tables are read: what squeue and sacct of 22.05 printed, and what they may print."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import EnvironmentNotAble
from harness.launch import jobfacts
from harness.launch.jobfacts import (
    SACCT_SEPARATOR,
    JobFacts,
    base_id,
    own_name,
    parse_duration,
    parse_exit,
    parse_local_time,
    parse_sacct,
    parse_squeue,
    parse_tasks,
    user_of,
)
from harness.launch.queue import ask, is_own, live, own_facts
from harness.launch.slurm import Slurm
from harness.runs.jobs import Job, record_job
from harness.runs.lock import process_start
from harness.runs.paths import RunPaths


def row(**values: str) -> str:
    """A line of squeue, padded and cut as it pads and cuts."""
    default = {"JobArrayID": "12", "State": "PENDING", "exit_code": "0", "RestartCnt": "0"}
    said = {**default, **values}
    return "".join(f"{said.get(name, ''):<{width}.{width}}" for name, width in jobfacts._COLUMNS)


def sacct(*lines: str) -> str:
    return "\n".join(line.replace("|", SACCT_SEPARATOR) for line in lines) + "\n"


def test_a_pending_job() -> None:
    facts = parse_squeue(
        row(Reason="Resources", TimeLimit="10:00", TimeUsed="0:00", Name="a|b c", Partition="low")
    )["12"]
    assert (facts.state, facts.reason, facts.nodes) == ("PENDING", "Resources", None)
    assert (facts.elapsed_s, facts.limit_s, facts.task, facts.waiting) == (0, 600, None, 0)
    assert (facts.name, facts.partition) == ("a|b c", "low")
    assert facts.is_waiting and facts.is_live and not facts.is_active


def test_what_could_break_columns_does_not() -> None:
    reason = "(ReqNodeNotAvail, UnavailableNodes:n[1-3,7]) | PENDING"
    nodes = "n[001-099,201],m[1-4]"
    facts = parse_squeue(row(Reason=reason, NodeList=nodes, Name="x" * 400, RestartCnt="3"))["12"]
    assert (facts.reason, facts.nodes, facts.restarts) == (reason, nodes, 3)
    assert facts.name == "x" * 300


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300))
def test_any_name_leaves_the_rest_alone(name: str) -> None:
    facts = parse_squeue(row(Name=name, Reason="Priority", UserName="me"))["12"]
    assert (facts.reason, facts.user) == ("Priority", "me")


def test_a_chain_is_one_job() -> None:
    text = "\n".join(
        [
            row(JobArrayID="7_[3-5,9%1]", State="PENDING", Reason="JobArrayTaskLimit"),
            row(JobArrayID="7_2", State="RUNNING", NodeList="n1"),
            row(JobArrayID="7_1", State="FAILED", NodeList="n2", exit_code="256"),
            row(JobArrayID="8_0", State="COMPLETED", NodeList="n1", EndTime="2026-01-01T00:00:01"),
            row(JobArrayID="8_[1-9%1]", State="CANCELLED", EndTime="2026-01-01T00:00:09"),
            row(JobArrayID="9_[2-4%1]", State="PENDING", Reason="JobArrayTaskLimit"),
            row(JobArrayID="9_1", State="PENDING", Reason="BeginTime", RestartCnt="1"),
            row(JobArrayID="9_0", State="COMPLETED", NodeList="n1"),
        ]
    )
    found = parse_squeue(text)
    assert (found["7"].state, found["7"].task, found["7"].waiting) == ("RUNNING", 2, 4)
    assert found["7"].log_id == "7_2"
    assert (found["8"].state, found["8"].task) == ("COMPLETED", 0), "the rest never began"
    assert (found["9"].reason, found["9"].task, found["9"].waiting) == ("BeginTime", 1, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", (None, 1)),
        ("12_3", (3, 1)),
        ("12_[2-5,9%1]", (2, 5)),
        ("12_[0-8:4]", (0, 3)),
        ("12_[...]", (None, 1)),
    ],
)
def test_tasks(text: str, expected: tuple[int | None, int]) -> None:
    assert parse_tasks(text) == expected
    assert base_id(text) == "12"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:00", 0),
        ("10:00", 600),
        ("2:00:00", 7200),
        ("1-02:03:04", 93784),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_durations(text: str, expected: int | None) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1792", (7, 0)), ("9", (0, 9)), ("7:0", (7, 0)), ("0:9", (0, 9)), ("", (None, None))],
)
def test_exit_codes_of_every_version(text: str, expected: tuple[int | None, int | None]) -> None:
    assert parse_exit(text) == expected


def test_times_are_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import time; time.tzset()\n"
        "from harness.launch.jobfacts import parse_local_time as p\n"
        "print(p('2026-07-01T12:00:00'), p('N/A'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TZ": "Europe/Berlin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2026-07-01T10:00:00Z None\n"
    assert parse_local_time("Unknown") is None


def test_accounting() -> None:
    found = parse_sacct(
        sacct(
            "3|CANCELLED by 0|0:0|None assigned|0|10|None|2026-11-24T16:10:14|low|root|w|BeginTime",
            "7|FAILED|0:9|n1|5|UNLIMITED|2026-11-24T16:14:15|2026-11-24T16:14:15|low|me|a,b|None",
            "9|RUNNING|0:0|n1|6|10|2026-11-24T16:10:08|Unknown|low|root|w|None",
            "a line that is no row",
        )
    )
    cancelled, failed, lost = found["3"], found["7"], found["9"]
    assert (cancelled.state, cancelled.cancelled_by, cancelled.nodes) == ("CANCELLED", "root", None)
    assert (failed.signal, failed.elapsed_s, failed.limit_s, failed.name) == (9, 5, None, "a,b")
    assert not lost.is_live, "the controller, which was asked first, does not know it"
    assert user_of("4000000000") == "user id 4000000000"
    assert user_of("somebody") == "somebody"
    assert own_name() == user_of(str(os.geteuid()))


class TestLocal:
    def test_alive_and_ended(self) -> None:
        child = subprocess.Popen(["sleep", "60"])
        job = Job(
            str(child.pid), "local", host=socket.gethostname(), start=process_start(child.pid)
        )
        try:
            assert ask([job], Slurm({}))[job.id].is_active
        finally:
            child.kill()
        # Nobody has waited for it: a zombie is over too.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert ask([job], Slurm({}))[job.id].state == "ENDED"
        child.wait()
        assert ask([job], Slurm({}))[job.id].state == "ENDED"

    @pytest.mark.parametrize(
        "changes", [{"start": "another boot:1"}, {"start": None}, {"host": "elsewhere"}]
    )
    def test_another_process_or_host(self, changes: dict[str, str | None]) -> None:
        facts = {"host": socket.gethostname(), "start": process_start(os.getpid()), **changes}
        job = Job(str(os.getpid()), "local", **facts)
        assert not ask([job], Slurm({}))[job.id].is_live


def test_without_slurm(tmp_path: object) -> None:
    bare = Slurm({"PATH": str(tmp_path)})
    paths = RunPaths.create(tmp_path / "run", "private")  # type: ignore[operator]
    assert ask([], bare) == {}
    record_job(paths, Job("12"))
    with pytest.raises(EnvironmentNotAble, match="no SLURM on this machine"):
        ask([Job("12")], bare)
    assert live(paths, bare) is None
    assert JobFacts("1").is_live is False


@pytest.mark.parametrize(
    ("name", "by", "facts", "own"),
    [
        ("textures", "ada", {"name": "textures", "user": "ada"}, True),
        ("textures", None, {"name": "textures", "user": "ada"}, True),
        ("textures", "ada", {}, True),
        ("textures", "ada", {"name": "textures", "user": "1007"}, True),
        ("textures", "1007", {"name": "textures", "user": "ada"}, True),
        ("textures", "ada", {"name": "other", "user": "ada"}, False),
        ("textures", "ada", {"name": "textures", "user": "bob"}, False),
        ("textures", None, {"name": "other"}, False),
    ],
)
def test_an_id_may_mean_another_job_here(
    name: str, by: str | None, facts: dict[str, str], own: bool
) -> None:
    job, said = Job("12", user=by), JobFacts("12", "RUNNING", "squeue", **facts)
    assert is_own(name, job, said) is own
    assert own_facts(name, job, said) == (said if own else JobFacts("12"))
    assert own_facts(name, job, None) is None


RECORDING = """#!/bin/bash
printf '%s\\n' "$0" >> "$(dirname "$0")/called"
if [ "${0##*/}" = scontrol ]; then echo "Slurmctld(primary) at here is UP"; fi
"""


def test_more_jobs_than_fit_in_a_word(tmp_path: Path) -> None:
    """Linux refuses a word of 128 KiB; twenty thousand ids are more."""
    for name in ("scontrol", "squeue", "sacct"):
        (tmp_path / name).write_text(RECORDING)
        (tmp_path / name).chmod(0o700)
    slurm = Slurm({"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    jobs = [Job(str(10_000_000 + number)) for number in range(20_001)]
    found = ask(jobs, slurm)
    assert {facts.state for facts in found.values()} == {"UNKNOWN"}
    called = [Path(line).name for line in (tmp_path / "called").read_text().splitlines()]
    assert called == ["scontrol", *["squeue"] * 5, *["sacct"] * 5]


def test_a_command_that_may_not_be_run_or_is_called_with_too_much(tmp_path: Path) -> None:
    (tmp_path / "squeue").write_text("not a program\n")
    (tmp_path / "squeue").chmod(0o700)
    (tmp_path / "sacct").mkdir()
    slurm = Slurm({"PATH": str(tmp_path)})
    with pytest.raises(EnvironmentNotAble, match="squeue cannot be run here, got Exec format"):
        slurm.run("squeue")
    with pytest.raises(EnvironmentNotAble, match="sacct cannot be run here, got Permission"):
        slurm.run("sacct")
    (tmp_path / "squeue").write_text("#!/bin/sh\n")
    with pytest.raises(EnvironmentNotAble, match="squeue cannot be run here, got Argument list"):
        slurm.run("squeue", "1," * 100_000)
