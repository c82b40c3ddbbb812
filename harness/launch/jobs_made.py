"""The ways in which a job comes to be: by sbatch, by the user's own sbatch, on this machine."""

from __future__ import annotations

import os
import shlex
import sys
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

    access = resolved.spec.access
    step = step_command(request, paths, pickle)
    executor = RunSlurmExecutor(paths.slurm, slurm, step, 0o007 if access == "group" else 0o077)
    executor.update_parameters(**parameters(request, paths, resolved.site, access))
    return executor


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

    job = _executor(resolved, request, paths, slurm).submit(carry_out, str(paths.root))
    tasks = request.max_attempts if request.continue_by == "chain" else None
    return Job(job.job_id, site=resolved.site.name, ranks=request.ranks, tasks=tasks)


def prepare_job(resolved: Resolved, request: Request, paths: RunPaths, slurm: Slurm) -> str:
    """Writes script and call for somebody who calls sbatch elsewhere; the line to paste."""
    from submitit.core.utils import DelayedSubmission

    from harness.worker.task import carry_out

    DelayedSubmission(carry_out, str(paths.root)).dump(paths.slurm / PREPARED_PICKLE)
    (paths.slurm / PREPARED_PICKLE).chmod(0o600)
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
    executor = RunLocalExecutor(paths.slurm, [*call, "%j_submitted.pkl"])
    executor.update_parameters(
        timeout_min=_NO_LIMIT_MIN if request.time_s is None else request.time_s / 60,
        tasks_per_node=request.ranks_per_node,
        signal_delay_s=request.lead_s,
    )
    umask = os.umask(0o007 if resolved.spec.access == "group" else 0o077)
    try:
        job = executor.submit(carry_out, str(paths.root))
    finally:
        os.umask(umask)
    return Job(
        job.job_id,
        executor=LOCAL,
        site=resolved.site.name,
        ranks=request.ranks,
        start=process_start(int(job.job_id)),
    )
