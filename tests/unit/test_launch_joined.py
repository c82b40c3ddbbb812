"""The state of a run with a job, as a table: what the files say, what SLURM says, what is so."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.launch.jobfacts import ACTIVE_STATES, WAITING_STATES, JobFacts
from harness.launch.joined import LIVE_WORDS, join
from harness.launch.reasons import (
    _WAITS,
    what_to_do,
    why_ended,
    why_waiting,
)
from harness.runs.attempts import Attempt
from harness.runs.describe import _SENTENCE, paragraph
from harness.runs.jobs import Job
from harness.runs.registry import RunSummary

SUBMITTED = "2026-11-24T16:00:00.000Z"
JOB = Job("12", submitted=SUBMITTED)
CHAIN = Job("12", submitted=SUBMITTED, tasks=5)
MARK = {"user": "ada", "time": SUBMITTED}


def row(state: str = "new", reason: str | None = None, **more: Any) -> RunSummary:
    return RunSummary("id", "name", "/runs/id", state, reason, **more)


def last(outcome: str | None = None, job: str | None = "12", restart: int = 0) -> Attempt:
    return Attempt(
        1, "n1", 5, "2026-11-24T16:01:00.000Z", outcome=outcome, job=job, restart=restart,
        message="asked by SIGUSR2" if outcome == "stopped" else None,
    )  # fmt: skip


def squeue(state: str, **more: Any) -> JobFacts:
    return JobFacts("12", state, "squeue", **{"restarts": 0, "nodes": "n1", **more})


def pending(reason: str = "Priority", **more: Any) -> JobFacts:
    return squeue("PENDING", reason=reason, **more)


STOPPED = row("stopped", "asked by SIGUSR2", last=last("stopped"), step=40)
SILENT = row("interrupted", "its process ended without a word; last heartbeat 9 s ago on host n1",
             last=last(), step=40)  # fmt: skip
FRESH = row("running", "last heartbeat 2 s ago on host n1, though no lock", last=last(), step=40)
LOCKED = row("running", "process 5 on host n1", last=last(), step=40, locked=True)
HAND = row("running", "process 9 on host login", last=last(job=None), locked=True)
FAILED = row("failed", "loss is NaN", last=last("failed"))

TABLE: dict[str, tuple[RunSummary, Job | None, JobFacts | None, Any, str, str]] = {
    "never submitted": (row(), None, None, None, "new", "None"),
    "finished, job still there": (row("finished"), JOB, squeue("RUNNING"), None, "finished", ""),
    "nobody asked": (row(), JOB, None, None, "new", "^it was submitted as job 12$"),
    "nobody asked, cancelled": (STOPPED, JOB, None, MARK, "cancelled", "by ada with harness"),
    "nobody asked, running": (LOCKED, JOB, None, None, "running", "process 5"),
    "queued": (row(), JOB, pending(), None, "queued", "^other jobs come first$"),
    "held": (row(), JOB, pending("JobHeldAdmin"), None, "queued", "held by an administrator"),
    "queued again after a failure": (FAILED, JOB, pending(), None, "waiting", "other jobs"),
    "another submission after a failure": (
        row("failed", "x", last=last("failed", "3")), JOB, pending(), None, "queued", "other jobs"),
    "trained by hand while queued": (HAND, JOB, pending(), None, "running", "process 9"),
    "preempted and waiting": (
        STOPPED, JOB, pending("BeginTime", restarts=1), None,
        "waiting", r"saved and left \(asked by SIGUSR2\); now its earliest start"),
    "killed and waiting": (SILENT, JOB, pending(restarts=1), None, "waiting", "without a word"),
    "its heartbeat is still fresh": (FRESH, JOB, pending(restarts=1), None, "waiting", "word"),
    "waiting, never began": (row(), JOB, pending(restarts=2), None, "waiting", "before an attempt"),
    "the next of a chain": (
        STOPPED, CHAIN, pending("JobArrayTaskLimit", task=1, waiting=4), None, "waiting", "saved"),
    "the first of a chain": (row(), CHAIN, pending(task=0, waiting=5), None, "queued", "other"),
    "starting": (row(), JOB, squeue("RUNNING"), None, "starting", "runs on n1, and no attempt"),
    "configuring": (row(), JOB, squeue("CONFIGURING"), None, "starting", "n1"),
    "starting again": (STOPPED, JOB, squeue("RUNNING", restarts=1), None, "starting", "n1"),
    "running": (LOCKED, JOB, squeue("RUNNING"), None, "running", "process 5"),
    "running, lock not visible": (FRESH, JOB, squeue("RUNNING"), None, "running", "2 s ago"),
    "running, no sign of life": (SILENT, JOB, squeue("RUNNING"), None, "running", "9 s ago"),
    "suspended": (LOCKED, JOB, squeue("SUSPENDED"), None, "suspended", "halted"),
    "cancelled, saving": (LOCKED, JOB, squeue("RUNNING"), MARK, "stopping", "by ada"),
    "cancelled, saved": (STOPPED, JOB, squeue("RUNNING"), MARK, "completing", "attempt is over"),
    "saved, job still there": (STOPPED, JOB, squeue("RUNNING"), None, "completing", "decides"),
    "completing": (SILENT, JOB, squeue("COMPLETING"), None, "completing", "cleans up"),
    "failed, job still there": (FAILED, JOB, squeue("RUNNING"), None, "failed", "loss is NaN"),
    "failed, job over": (FAILED, JOB, squeue("FAILED", exit_code=1), None, "failed", "loss is NaN"),
    "failed before training": (
        row(), JOB, squeue("FAILED", exit_code=7), None,
        "failed", "12 ended before training began: it ended with exit code 7"),
    "killed by a signal": (row(), JOB, squeue("FAILED", exit_code=0, signal=9), None, "failed",
                           "signal 9"),
    "time limit, no word": (SILENT, JOB, squeue("TIMEOUT", limit_s=7200), None, "failed",
                            "at step 40: SLURM ended it at its time limit of 2.0 h"),
    "node failure": (SILENT, JOB, squeue("NODE_FAIL"), None, "failed", r"node of it failed \(n1\)"),
    "out of memory": (SILENT, JOB, squeue("OUT_OF_MEMORY"), None, "failed", "more memory"),
    "boot failure": (row(), JOB, squeue("BOOT_FAIL"), None, "failed", "could not be booted"),
    "deadline": (row(), JOB, squeue("DEADLINE"), None, "failed", "deadline"),
    "fresh heartbeat of a dead job": (FRESH, JOB, squeue("NODE_FAIL"), None, "failed", "node"),
    "preempted for good": (
        STOPPED, JOB, squeue("PREEMPTED"), None, "stopped",
        "SIGUSR2; it was not queued again: a job of a higher priority"),
    "over, saved": (STOPPED, JOB, squeue("FAILED", exit_code=75), None, "stopped", "not queued"),
    "cancelled by harness": (STOPPED, JOB, squeue("FAILED"), MARK, "cancelled", "by ada with"),
    "cancelled by somebody": (
        SILENT, JOB, squeue("CANCELLED", cancelled_by="root"), None, "cancelled", "by root"),
    "cancelled, nobody knows by whom": (
        row(), JOB, squeue("CANCELLED"), None, "cancelled", "12: it was cancelled$"),
    "over without an attempt": (row(), JOB, squeue("COMPLETED"), None, "interrupted", "before an"),
    "trained by hand since": (
        row("stopped", "SIGINT", last=last("stopped", None)), JOB, squeue("FAILED"), None,
        "stopped", "^SIGINT$"),
    "forgotten, never began": (row(), JOB, JobFacts("12"), None, "interrupted", "no longer knows"),
    "forgotten, saved": (STOPPED, JOB, JobFacts("12"), None, "stopped", "no longer knows job 12"),
    "forgotten, running": (FRESH, JOB, JobFacts("12"), None, "running", "no longer knows"),
    "lost by the controller": (
        SILENT, JOB, JobFacts("12", "RUNNING", "sacct"), None, "failed", "SLURM says RUNNING"),
    "local, running": (
        LOCKED, JOB, JobFacts("12", "RUNNING", "host", nodes="pc"), None, "running", "process 5"),
    "local, starting again": (
        STOPPED, JOB, JobFacts("12", "RUNNING", "host", nodes="pc"), None, "starting", "pc"),
    "local, over": (SILENT, JOB, JobFacts("12", "ENDED", "host"), None, "failed", "has ended"),
    "local, elsewhere": (
        row(), Job("12", "local", host="pc"), JobFacts("12"), None, "new", "on host pc"),
    "broken": (row("broken", "no JSON"), JOB, squeue("RUNNING"), None, "broken", "no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_word_and_reason(case: str) -> None:
    files, job, facts, mark, word, reason = TABLE[case]
    got = join(files, job, facts, mark)
    assert got.state == word
    assert re.search(reason, str(got.reason)), got.reason


STATES = [*sorted(WAITING_STATES | ACTIVE_STATES), "FAILED", "TIMEOUT", "CANCELLED", "UNKNOWN"]


@given(
    st.sampled_from([row(), STOPPED, SILENT, FRESH, LOCKED, HAND, FAILED]),
    st.sampled_from([JOB, CHAIN]),
    st.builds(
        JobFacts,
        st.just("12"),
        st.sampled_from([*STATES, "SOMETHING_NEW"]),
        st.sampled_from(["squeue", "sacct", None]),
        st.sampled_from([None, 0, 3]),
        reason=st.sampled_from([None, *_WAITS, "SomethingNew", "AssocGrpCpuLimit"]),
        restarts=st.sampled_from([None, 0, 1]),
    ),
    st.sampled_from([None, MARK, {}]),
)
def test_every_combination_has_a_sentence(
    files: RunSummary, job: Job, facts: JobFacts, mark: dict[str, str] | None
) -> None:
    got = join(files, job, facts, mark)
    if facts.is_live and not files.locked:
        assert got.state in LIVE_WORDS | {"failed"}
    told = paragraph(
        {
            **files.as_json(),
            "state": got.state,
            "reason": got.reason,
            "next": got.next,
            "job": {"id": job.id},
            "attempts": [],
            "parent": None,
            "exact": None,
        }
    )
    assert told.startswith("name id ") and "None" not in told


def test_every_live_word_has_a_sentence() -> None:
    assert set(_SENTENCE) >= LIVE_WORDS | {"cancelled"}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (None, "not looked at it yet"),
        ("None", "not looked at it yet"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", "down, drained or reserved"),
        ("launch_failed_requeued_held", "last start failed on the node"),
        ("QOSMaxCpuPerUserLimit", "limit of CPU cores that the QOS has .* of yours use it up"),
        ("QOSMaxGRESPerUser", "limit of GPUs or other devices that the QOS has"),
        ("AssocGrpCPUMinutesLimit", "limit of CPU cores that your account has"),
        ("AssocGrpBillingMinutes", "your account"),
        ("MaxJobsPerAccount", "limit of jobs that your user has"),
        ("SomethingNew", "^SLURM says SomethingNew$"),
    ],
)
def test_reasons_in_words(reason: str | None, words: str) -> None:
    assert re.search(words, why_waiting(reason))


def test_what_helps() -> None:
    assert what_to_do("JobHeldUser", "12") == "`scontrol release 12` lets it go on"
    assert what_to_do("Priority", "12") is None
    assert what_to_do("SomethingNew", "12") is None
    assert all(
        todo is None or "{" not in str(what_to_do(name, "1")) for name, (_, todo) in _WAITS.items()
    )


def test_ends_that_are_not_known_are_shown() -> None:
    assert why_ended("SOMETHING_NEW") == "SLURM says SOMETHING_NEW"
    assert why_ended("FAILED") == "it ended with an error, and SLURM does not say which"
