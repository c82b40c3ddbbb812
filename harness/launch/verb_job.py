"""Verbs of harness as jobs: ``harness pack SRC DST --slurm`` and the like.

The job runs the very verb that its user has typed, without ``--slurm``.  It is submitted as a run
is: by the profile of the site, after the same questions to the cluster, in the same script; what
differs in there stands in ``verb_job.sh``.  Its files are in a folder of their own below the runs
root, which is always the same for the same data.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.launch.container import INSIDE, inside_of
from harness.launch.executors import RunSlurmExecutor
from harness.launch.preflight import preflight
from harness.launch.queue import ask, is_own
from harness.launch.request import Request, make_request
from harness.launch.script import check_path, parameters
from harness.launch.slurm import NoAnswer, Slurm, SlurmError
from harness.launch.submitting import put_back_on_error, submitting
from harness.launch.verb_spec import VerbJob
from harness.runs.files import make_dir
from harness.runs.jobs import Job, prune_job_files, read_jobs, record_job
from harness.runs.paths import RunPaths
from harness.spec import Resolved
from harness.worker.entry import SAFE_PATH

START = SAFE_PATH + "from harness.__main__ import main; sys.exit(main())"
_FUNCTIONS = Path(__file__).with_name("verb_job.sh")
_KEPT_JOBS = 8


@dataclass(frozen=True)
class SubmittedVerb:
    """A job that was submitted for a verb."""

    job: Job
    paths: RunPaths
    logs: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    preflight_s: float | None = None
    next: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "job_id": self.job.id,
            "tasks": self.job.tasks,
            "path": self.paths.root,
            "script": self.paths.slurm / f"{self.job.id}_submission.sh",
            "logs": list(self.logs),
            "notes": list(self.notes),
            "not_let_through": list(self.hidden),
            "preflight_s": self.preflight_s,
            "next": list(self.next),
        }


def script_of(job: VerbJob, resolved: Resolved, root: Path, slurm: Slurm) -> str:
    """The exact batch script of a submission."""
    return _executor(job, resolved, RunPaths(root), slurm).text()


def submit_verb(
    job: VerbJob, resolved: Resolved, runs_root: Path, *, check: bool = True
) -> SubmittedVerb:
    """Submits a verb, after asking the cluster whether such a job can run there.

    Raises:
        EnvironmentNotAble: there is no SLURM, or it does not answer.
        UsageError: a job of the same data waits or runs, or SLURM refused it.
        SpecError, StorageError: see :func:`harness.launch.preflight.preflight`.
    """
    slurm, paths = Slurm(), RunPaths(job.root(runs_root))
    notes: tuple[str, ...] = ()
    seconds = None
    slurm.require()
    if check:
        text = script_of(job, resolved, paths.root, slurm)
        found = preflight(resolved, make_request(resolved), paths.root, text, slurm)
        found.raise_if_bad()
        notes, seconds = found.notes, found.seconds
    else:
        slurm.ping()
    parts = _parts(job, paths)
    for one in (paths, *parts):
        make_dir(one.slurm, "private")
    contained = resolved.spec.cluster.container is not None
    if contained and job.made is not None and not job.made.exists():
        make_dir(job.made, "private")  # only what is there is seen inside
    with submitting(paths):
        _refuse_live(job, paths, slurm)
        made = _start(job, resolved, paths, slurm)
        for one in (paths, *parts):
            prune_job_files(one, _KEPT_JOBS)
    logs = tuple(
        one.job_log(made.id if job.parts == 1 else f"{made.id}_{number}", 0, "out")
        for number, one in enumerate(parts, 1)
    )
    return SubmittedVerb(
        made, paths, logs, notes, tuple(slurm.hidden), seconds, _next(job, made, logs)
    )


def _start(job: VerbJob, resolved: Resolved, paths: RunPaths, slurm: Slurm) -> Job:
    executor = _executor(job, resolved, paths, slurm)
    parts = _parts(job, paths)
    marks = [mark for one in (paths, *parts) for mark in (one.finished, one.failed, one.cancelled)]
    marks += [one.without_progress for one in (paths, *parts)]
    try:
        with put_back_on_error(*marks, but_not=NoAnswer):
            number = executor.submit_alone()
    except SlurmError as error:
        raise UsageError(
            "SLURM refused the job; nothing was submitted",
            got=str(error),
            action="correct it with -o cluster.FIELD=VALUE; without --no-preflight each field is "
            "checked by name",
        ) from None
    tasks = None if job.parts == 1 else job.parts
    try:
        return record_job(paths, Job(number, site=resolved.site.name, tasks=tasks))
    except BaseException:
        slurm.run("scancel", number, check=False)
        raise


def _executor(job: VerbJob, resolved: Resolved, paths: RunPaths, slurm: Slurm) -> RunSlurmExecutor:
    request = make_request(resolved)
    check_path(paths)
    sees = {str(path): f"what harness {job.verb} reads" for path in job.sees}
    inside = inside_of(resolved, paths, sees)
    made = parameters(request, paths, resolved.site, "private", inside=inside, resume=job.resume)
    setup = made["setup"]
    at = setup.index("harness_start")
    made["setup"] = [*setup[:at], *_own_lines(job, paths), *setup[at:]]
    if job.parts > 1:
        logs = f"{paths.root}/part-%a/slurm/%A_%a_0_log"
        made["additional_parameters"] |= {
            "array": f"1-{job.parts}",
            "output": f"{logs}.out",
            "error": f"{logs}.err",
        }
    step = _step(job, request, contained=inside is not None)
    executor = RunSlurmExecutor(paths.slurm, slurm, step, 0o077)
    executor.update_parameters(**made)
    return executor


def _own_lines(job: VerbJob, paths: RunPaths) -> list[str]:
    lines = [*_FUNCTIONS.read_text(encoding="utf-8").rstrip().split("\n"), ""]
    lines.append(f"harness_made={shlex.quote(str(job.made or paths.root))}")
    if job.parts > 1:
        # Each part has an account of its own.
        lines.append('harness_run+="/part-$SLURM_ARRAY_TASK_ID"')
    return [*lines, ""]


def _step(job: VerbJob, request: Request, *, contained: bool) -> str:
    words = [
        "srun",
        "--unbuffered",
        "--kill-on-bad-exit=1",
        # Since SLURM 22.05 srun no longer takes it from the job.
        f"--cpus-per-task={request.cpus_per_rank}",
    ]
    workers = ["--workers", str(request.cpus_per_rank)] if job.workers else []
    verb = shlex.join([job.verb, *job.words, *workers])
    if job.parts > 1:
        verb += f' --part "$SLURM_ARRAY_TASK_ID/{job.parts}"'
    within = f"{INSIDE} " if contained else ""
    python = f'{within}"$harness_python" -u -c {shlex.quote(START)}'
    return f"harness_step {shlex.join(words)} {python} {verb}"


def _parts(job: VerbJob, paths: RunPaths) -> list[RunPaths]:
    if job.parts == 1:
        return [paths]
    return [RunPaths(paths.root / f"part-{number}") for number in range(1, job.parts + 1)]


def _refuse_live(job: VerbJob, paths: RunPaths, slurm: Slurm) -> None:
    jobs = read_jobs(paths)
    facts = ask(jobs, slurm)
    for one in jobs:
        found = facts[one.id]
        if found.is_live and is_own(job.name, one, found):
            raise UsageError(
                f"a job that does the same is {found.state.lower()} already",
                got=f"job {one.id}, submitted {one.submitted}",
                action=f"wait for its end (`squeue -j {one.id}`), or end it: scancel {one.id}",
            )


def _next(job: VerbJob, made: Job, logs: Sequence[Path]) -> tuple[str, ...]:
    found = [
        f"squeue -j {made.id}",
        f"tail -F {shlex.join(map(str, logs))}",
        f"scancel {made.id}",
    ]
    if job.verb == "pack":
        found.append(f"harness inspect {shlex.quote(str(job.made))}")
    return tuple(found)
