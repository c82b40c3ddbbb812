"""The ways in which a job comes to be: by sbatch, by the user's own sbatch, on this machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.launch.request import Request
from harness.launch.script import parameters, step_command
from harness.launch.slurm import Slurm
from harness.runs.files import write_atomic
from harness.runs.jobs import LOCAL, Job
from harness.runs.lock import process_start
from harness.runs.paths import RunPaths

if TYPE_CHECKING:
    from harness.launch.executors import RunSlurmExecutor
    from harness.spec import Resolved

PREPARED_PICKLE = "prepared.pkl"
PREPARED_SCRIPT = "prepared_submission.sh"
_NO_LIMIT_MIN = 60 * 24 * 365


def _executor(
    resolved: Resolved,
    request: Request,
    paths: RunPaths,
    slurm: Slurm,
    pickle: str | None = None,
) -> RunSlurmExecutor:
    from harness.launch.executors import RunSlurmExecutor

    step = step_command(request, paths, pickle)
    executor = RunSlurmExecutor(paths.slurm, slurm, step, _umask(resolved))
    made = parameters(request, paths, resolved.site, resolved.spec.access)
    executor.update_parameters(**made)
    return executor


def _umask(resolved: Resolved) -> int:
    return 0o007 if resolved.spec.access == "group" else 0o077


@contextmanager
def _pickles_are_ours_alone() -> Iterator[None]:
    """submitit writes the call with the umask of the shell, and a rank loads only its own."""
    held = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(held)


def script_text(resolved: Resolved, request: Request, paths: RunPaths, slurm: Slurm) -> str:
    """The batch script that :func:`start_slurm` submits."""
    return _executor(resolved, request, paths, slurm).text()


def start_slurm(resolved: Resolved, request: Request, paths: RunPaths, slurm: Slurm) -> Job:
    """Submits the run through submitit.

    Raises:
        SlurmError: sbatch refused.
        EnvironmentNotAble: SLURM does not answer.
    """
    from harness.worker.task import carry_out

    executor = _executor(resolved, request, paths, slurm)
    with _pickles_are_ours_alone():
        job = executor.submit(carry_out, str(paths.root))
    tasks = request.max_attempts if request.continue_by == "chain" else None
    return Job(job.job_id, site=resolved.site.name, ranks=request.ranks, tasks=tasks)


def prepare_job(resolved: Resolved, request: Request, paths: RunPaths, slurm: Slurm) -> str:
    """Writes script and call for somebody who calls sbatch elsewhere; the line to paste."""
    from submitit.core.utils import DelayedSubmission

    from harness.worker.task import carry_out

    (paths.slurm / PREPARED_PICKLE).unlink(missing_ok=True)
    with _pickles_are_ours_alone():
        DelayedSubmission(carry_out, str(paths.root)).dump(paths.slurm / PREPARED_PICKLE)
    script = paths.slurm / PREPARED_SCRIPT
    text = _executor(resolved, request, paths, slurm, PREPARED_PICKLE).text()
    write_atomic(script, text)
    # Where the shell has defaults of its own, they would beat the lines of the script.
    without = [word for name in slurm.hidden for word in ("-u", name)]
    return shlex.join([*(["env", *without] if without else []), "sbatch", str(script)])


def start_local(resolved: Resolved, request: Request, paths: RunPaths) -> Job:
    """Starts the run on this machine, under submitit's controller."""
    from harness.launch.executors import RunLocalExecutor
    from harness.worker.task import carry_out

    call = [sys.executable, "-u", "-m", "harness.worker.entry", str(paths.slurm)]
    umask = _umask(resolved)
    executor = RunLocalExecutor(paths.slurm, [*call, "%j_submitted.pkl"], umask)
    executor.update_parameters(
        timeout_min=_NO_LIMIT_MIN if request.time_s is None else request.time_s / 60,
        tasks_per_node=request.ranks_per_node,
        signal_delay_s=request.lead_s,
    )
    with _pickles_are_ours_alone():
        job = executor.submit(carry_out, str(paths.root))
    return Job(
        job.job_id,
        executor=LOCAL,
        site=resolved.site.name,
        ranks=request.ranks,
        start=process_start(int(job.job_id)),
    )
