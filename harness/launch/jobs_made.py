"""The ways in which a job comes to be: by sbatch, by the user's own sbatch, on this machine."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.launch.container import inside_of
from harness.launch.request import Request
from harness.launch.script import parameters, step_command
from harness.launch.slurm import NoAnswer, Slurm
from harness.runs.files import write_atomic
from harness.runs.jobs import LOCAL, Job, record_job
from harness.runs.lock import process_start
from harness.runs.paths import RunPaths
from harness.runs.storage import storage_error
from harness.worker.entry import PREPARED_PICKLE, START

if TYPE_CHECKING:
    from harness.launch.executors import RunSlurmExecutor
    from harness.spec import Resolved

_UUID_LETTERS = 32
_NO_LIMIT_MIN = 60 * 24 * 365


def _executor(
    resolved: Resolved,
    request: Request,
    paths: RunPaths,
    slurm: Slurm,
    pickle: str | None = None,
) -> RunSlurmExecutor:
    from harness.launch.executors import RunSlurmExecutor

    inside = inside_of(resolved, paths)
    step = step_command(request, paths, pickle, contained=inside is not None)
    executor = RunSlurmExecutor(paths.slurm, slurm, step, _umask(resolved))
    access, prepared = resolved.spec.access, pickle is not None
    made = parameters(request, paths, resolved.site, access, inside=inside, prepared=prepared)
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
    """Submits the run through submitit and notes the job; takes it back if that fails.

    Raises:
        SlurmError: sbatch refused.
        NoAnswer: the job may be in the queue; the call waits for it under another name.
        EnvironmentNotAble: SLURM does not answer.
        StorageError: a file of the job cannot be written.
    """
    from harness.worker.task import carry_out

    if (paths.slurm / PREPARED_PICKLE).exists():
        _prepare_call(paths)  # of a run that was moved it holds the old path
    executor = _executor(resolved, request, paths, slurm)
    tasks = request.max_attempts if request.continue_by == "chain" else None
    try:
        with _pickles_are_ours_alone():
            job = executor.submit(carry_out, str(paths.root))
        made = Job(job.job_id, site=resolved.site.name, ranks=request.ranks, tasks=tasks)
        return record_job(paths, made)
    except NoAnswer:
        (call,) = _unnamed_calls(paths)
        call.replace(paths.slurm / PREPARED_PICKLE)
        raise
    except BaseException as error:
        for call in _unnamed_calls(paths):
            call.unlink(missing_ok=True)
        if executor.job_id is not None:
            slurm.run("scancel", executor.job_id, check=False)
        if isinstance(error, OSError):
            raise storage_error(error, paths.slurm) from error
        raise


def _unnamed_calls(paths: RunPaths) -> list[Path]:
    """Pickled calls whose job submitit does not know yet: it calls them by a UUID."""
    return [path for path in paths.slurm.glob("*.pkl") if len(path.stem) == _UUID_LETTERS]


def prepare_job(resolved: Resolved, request: Request, paths: RunPaths, slurm: Slurm) -> str:
    """Writes script and call for somebody who calls sbatch elsewhere; the line to paste."""
    _prepare_call(paths)
    script = paths.prepared_script
    text = _executor(resolved, request, paths, slurm, PREPARED_PICKLE).text()
    write_atomic(script, text)
    # Where the shell has defaults of its own, they would beat the lines of the script.
    without = [word for name in slurm.hidden for word in ("-u", name)]
    return shlex.join([*(["env", *without] if without else []), "sbatch", str(script)])


def _prepare_call(paths: RunPaths) -> None:
    from submitit.core.utils import DelayedSubmission

    from harness.worker.task import carry_out

    (paths.slurm / PREPARED_PICKLE).unlink(missing_ok=True)
    with _pickles_are_ours_alone():
        DelayedSubmission(carry_out, str(paths.root)).dump(paths.slurm / PREPARED_PICKLE)


def start_local(resolved: Resolved, request: Request, paths: RunPaths) -> Job:
    """Starts the run on this machine, under submitit's controller."""
    from harness.launch.executors import RunLocalExecutor
    from harness.worker.task import carry_out

    call = [sys.executable, "-u", "-c", START, str(paths.slurm)]
    umask = _umask(resolved)
    executor = RunLocalExecutor(paths.slurm, [*call, "%j_submitted.pkl"], umask)
    executor.update_parameters(
        timeout_min=_NO_LIMIT_MIN if request.time_s is None else request.time_s / 60,
        tasks_per_node=request.ranks_per_node,
        signal_delay_s=request.lead_s,
    )
    with _pickles_are_ours_alone():
        job = executor.submit(carry_out, str(paths.root))
    made = Job(
        job.job_id,
        executor=LOCAL,
        site=resolved.site.name,
        ranks=request.ranks,
        start=process_start(int(job.job_id)),
    )
    try:
        return record_job(paths, made)
    except BaseException:
        os.kill(int(job.job_id), signal.SIGTERM)
        raise
