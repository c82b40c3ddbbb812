"""One submission of a run at a time; marks of earlier attempts come back if it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.launch.slurm import NoAnswer, no_answer
from harness.launch.submitting import put_back_on_error, set_aside, submitting
from harness.runs.jobs import Job, last_job, prune_job_files, read_jobs, record_job
from harness.runs.paths import RunPaths
from harness.runs.registry import find_runs
from tests.unit.runs_helpers import make_run, python


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return make_run(tmp_path)


HOLD = """
import sys
from pathlib import Path
from harness.launch.submitting import submitting
from harness.runs.paths import RunPaths
from harness.runs.registry import find_runs
with submitting(RunPaths(Path(sys.argv[1]))):
    print("held", flush=True)
    import time; time.sleep(60)
"""


def test_two_submissions_at_once_are_refused(paths: RunPaths) -> None:
    other = python(HOLD, paths.root)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    try:
        with pytest.raises(UsageError, match="another process is submitting"), submitting(paths):
            pytest.fail("the lock was given twice")
    finally:
        other.kill()
        other.communicate()
    with submitting(paths):
        assert paths.submit_lock.exists()


def test_marks_are_gone_during_a_submission_and_stay_gone(paths: RunPaths) -> None:
    paths.failed.write_text("why")
    with put_back_on_error(paths.failed, paths.cancelled):
        assert not paths.failed.exists()
    assert not paths.failed.exists()


def test_marks_come_back_when_a_submission_fails(paths: RunPaths) -> None:
    paths.failed.write_text("why")
    with pytest.raises(UsageError), put_back_on_error(paths.failed, paths.cancelled):
        raise UsageError("refused")
    assert paths.failed.read_text() == "why"
    assert not paths.cancelled.exists()


def test_marks_stay_gone_when_the_job_may_be_there_all_the_same(paths: RunPaths) -> None:
    paths.cancelled.write_text("by the user")
    with pytest.raises(NoAnswer), put_back_on_error(paths.cancelled, but_not=NoAnswer):
        raise no_answer("nothing was heard")
    assert not paths.cancelled.exists()


def test_a_folder_set_aside_is_gone_at_once_even_with_an_open_file(paths: RunPaths) -> None:
    with (paths.root / "held").open("w"):
        aside = set_aside(paths.root)
        assert not paths.root.exists()
        assert aside.name.startswith(".")
        assert find_runs(aside.parent) == [], "no registry shows it"


def test_jobs_are_noted_in_their_order(paths: RunPaths) -> None:
    assert read_jobs(paths) == []
    assert last_job(paths) is None
    first = record_job(paths, Job("7", site="here"))
    second = record_job(paths, Job("12", tasks=20, ranks=4))
    assert first.host is not None
    assert first.submitted.endswith("Z")
    assert read_jobs(paths) == [first, second]
    assert last_job(paths) == second


def test_a_line_of_the_batch_script_tells_the_id_at_least(paths: RunPaths) -> None:
    paths.jobs.write_text('{"id": "5", "executor": "slurm", "unknown": 1}\n{"broken\n')
    assert read_jobs(paths) == [Job("5")]


def test_one_id_is_one_job_however_often_it_is_noted(paths: RunPaths) -> None:
    paths.jobs.write_text('{"id": "5"}\n{"id": "5", "site": "here"}\n')
    assert read_jobs(paths) == [Job("5", site="here")]


def test_only_files_of_old_jobs_are_pruned(paths: RunPaths) -> None:
    for number in range(1, 5):
        record_job(paths, Job(str(number)))
        for name in ("submission.sh", "submitted.pkl", "0_log.out", "0_log.err"):
            (paths.slurm / f"{number}_{name}").touch()
    (paths.slurm / "outcome-1.json").touch()
    (paths.slurm / "11_0_log.out").touch()
    prune_job_files(paths, 2)
    left = {path.name.split("_")[0] for path in paths.slurm.iterdir()}
    assert left == {"3", "4", "11", "outcome-1.json", "jobs.jsonl"}
