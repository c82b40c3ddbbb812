"""The exit code of a watch that has seen the end of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.launch.jobfacts import JobFacts
from harness.launch.joined import join
from harness.launch.looking import Look
from harness.launch.slurm import Slurm
from harness.launch.watching import code_of, watch
from harness.runs.attempts import begin_attempt, end_attempt
from harness.runs.jobs import Job
from harness.runs.registry import summarize
from tests.unit.runs_helpers import fail, finish, make_run, stop


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_a_refusal_has_the_code_of_its_error(tmp_path: Path, code: int) -> None:
    paths = make_run(tmp_path)
    number = begin_attempt(paths, {"job": "12", "restart": 0})
    end_attempt(paths, number, "refused", 0, 0, "no such data", exit_code=code)
    row, job = summarize(paths), Job("12")
    facts = JobFacts("12", "FAILED", "squeue", exit_code=code, restarts=0)
    look = Look(paths, row, job, facts, join(row, job, facts))
    assert look.joined.state == "stopped"
    assert code_of(look) == code
    lines: list[str] = []
    # By hand, with no job: the files say it alone.
    assert watch(paths, slurm=Slurm({}), say=lines.append) == code
    assert lines == ["stopped     no such data"]


def test_refused_then_cancelled(tmp_path: Path) -> None:
    paths = make_run(tmp_path)
    end_attempt(paths, begin_attempt(paths, {"job": "12"}), "refused", 0, 0, "x", exit_code=4)
    row, job = summarize(paths), Job("13")
    facts = JobFacts("13", "CANCELLED", "squeue")
    assert code_of(Look(paths, row, job, facts, join(row, job, facts))) == 75


def test_an_attempt_of_an_earlier_job_says_nothing_of_the_newest(tmp_path: Path) -> None:
    paths = make_run(tmp_path)
    end_attempt(paths, begin_attempt(paths, {"job": "12"}), "stopped", 0, 5, "asked by SIGUSR2")
    row, job = summarize(paths), Job("13")
    facts = JobFacts("13", "FAILED", "squeue", exit_code=3)
    look = Look(paths, row, job, facts, join(row, job, facts))
    assert look.joined.state == "failed"
    assert code_of(look) == 3


def test_the_others(tmp_path: Path) -> None:
    for act, code in ((finish, 0), (stop, 75), (fail, 1)):
        paths = make_run(tmp_path)
        act(paths)
        assert watch(paths, slurm=Slurm({}), say=lambda _line: None) == code
