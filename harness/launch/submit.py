"""``harness submit`` and ``harness resume``: from a spec to a job that looks after its run."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.launch.backbone_check import check_backbone, note_backbone
from harness.launch.container import check_image
from harness.launch.earlier_check import check_earlier
from harness.launch.jobs_made import prepare_job, script_text, start_local, start_slurm
from harness.launch.packed_check import check_packed
from harness.launch.queue import live
from harness.launch.request import checked_lanes, make_request
from harness.launch.site_checks import check_without_scheduler
from harness.launch.slurm import NoAnswer, Slurm, SlurmError
from harness.launch.submitting import put_back_on_error, set_aside, submitting
from harness.runs import registry
from harness.runs.create import CREATED, FINISHED, create_run
from harness.runs.ids import new_run_id
from harness.runs.jobs import LOCAL, Job, prune_job_files
from harness.runs.lock import lock_holder
from harness.runs.paths import RunPaths
from harness.runs.record import read_record

if TYPE_CHECKING:
    from harness.spec import Resolved

_KEPT_JOBS = 8
"""Submissions of a run whose scripts and logs are kept: the number of files stays bounded."""


@dataclass(frozen=True)
class Submitted:
    """A run and the job that was submitted for it.

    ``job`` is None for a run that was finished already, and for a prepared one, whose ``command``
    submits it.  ``hidden`` names the variables of the shell that were not let through.
    """

    paths: RunPaths
    run_id: str
    name: str
    how: str
    job: Job | None = None
    command: str | None = None
    notes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    preflight_s: float | None = None
    next: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        paths, job = self.paths, self.job
        logs = script = None
        if job is not None:
            first = job.id if job.tasks is None else f"{job.id}_0"
            logs = {end: paths.job_log(first, 0, end) for end in ("out", "err")}
            script = None if job.executor == LOCAL else paths.slurm / f"{job.id}_submission.sh"
        return {
            "run_id": self.run_id,
            "name": self.name,
            "path": paths.root,
            "how": self.how,
            "job_id": job.id if job else None,
            "executor": job.executor if job else None,
            "tasks": job.tasks if job else None,
            "script": script,
            "logs": logs,
            "command": self.command,
            "notes": list(self.notes),
            "not_let_through": list(self.hidden),
            "preflight_s": self.preflight_s,
            "next": list(self.next),
        }


def submit(
    resolved: Resolved,
    *,
    run_dir: Path | None = None,
    runs_root: Path | None = None,
    new: bool = False,
    check: bool = True,
    prepare: bool = False,
    say: Callable[[str], None],
) -> Submitted:
    """Makes the run, or takes the one that goes on, and submits a job for it.

    Args:
        run_dir, runs_root, new: as for ``harness run``.
        check: ask the cluster first whether the job can run there.
        prepare: write everything, and leave it to the user to call sbatch.
        say: hears what is worth knowing.

    Raises:
        EnvironmentNotAble: there is no SLURM, or it does not answer.
        UsageError: the run is queued or running already, or SLURM refused the job.
        DataError: packed data that the spec names are not whole, or its backbone is neither in the
            cache nor can be fetched.
        SpecError, StorageError: see :func:`harness.launch.preflight.preflight` and
            :func:`harness.runs.create.create_run`.
    """
    slurm = Slurm()
    notes, seconds = _look_first(resolved, slurm, run_dir, runs_root, check, prepare, say)
    fresh = run_dir is None or not Path(run_dir).expanduser().exists()
    paths, how = create_run(
        resolved,
        run_dir,
        new=new,
        runs_root=runs_root,
        say=say,
        beside=False,
        before_change=lambda found: _refuse_live(found, slurm),  # its job reads the spec later
    )
    job, command = None, None
    if how != FINISHED:
        job, command = _submit(resolved, paths, slurm, prepare, disposable=fresh and how == CREATED)
    record = read_record(paths)
    hidden = () if resolved.site.scheduler == LOCAL else tuple(slurm.hidden)
    return Submitted(
        paths,
        record["run_id"],
        record["name"],
        how,
        job,
        command,
        notes,
        hidden,
        seconds,
        _next(paths, job),
    )


def _look_first(
    resolved: Resolved,
    slurm: Slurm,
    run_dir: Path | None,
    runs_root: Path | None,
    check: bool,
    prepare: bool,
    say: Callable[[str], None],
) -> tuple[tuple[str, ...], float | None]:
    """What can be known before anything is made: notes, and the seconds of the preflight."""
    checked_lanes(resolved.spec)
    check_image(resolved)
    is_finished = run_dir is not None and RunPaths(run_dir).finished.exists()
    if not is_finished:
        check_packed(resolved)
        check_earlier(resolved)
    found = _ask_cluster(resolved, slurm, run_dir, runs_root, check, prepare)
    if not is_finished:
        check_backbone(resolved, say)  # last, as it may take its time
    return found


def _ask_cluster(
    resolved: Resolved,
    slurm: Slurm,
    run_dir: Path | None,
    runs_root: Path | None,
    check: bool,
    prepare: bool,
) -> tuple[tuple[str, ...], float | None]:
    if resolved.site.scheduler == LOCAL:
        return check_without_scheduler(resolved, prepare), None
    if prepare:
        return (), None
    slurm.require()
    if not check:
        slurm.ping()
        return (), None
    return _preflight(resolved, expected_dir(resolved, run_dir, runs_root), slurm)


def dry_run(resolved: Resolved, run_dir: Path | None, runs_root: Path | None) -> str:
    """The exact batch script of a submission, whose run id is made up without ``run_dir``.

    Raises:
        UsageError: the site starts jobs without a script.
    """
    if resolved.site.scheduler == LOCAL:
        raise UsageError(
            "a local job has no batch script",
            got=f"site {resolved.site.name}",
            action="leave out --dry-run, or name a site with SLURM",
        )
    folder = expected_dir(resolved, run_dir, runs_root)
    return script_text(resolved, make_request(resolved), RunPaths(folder), Slurm())


def expected_dir(resolved: Resolved, run_dir: Path | None, runs_root: Path | None) -> Path:
    """Where the run will be, as far as it can be told before it is made."""
    if run_dir is not None:
        return Path(run_dir).expanduser()
    root = registry.runs_root(runs_root, resolved.user.runs_root)
    return root / resolved.spec.name / new_run_id()


def _preflight(
    resolved: Resolved, run_dir: Path, slurm: Slurm
) -> tuple[tuple[str, ...], float | None]:
    from harness.launch.preflight import preflight

    request = make_request(resolved)
    script = script_text(resolved, request, RunPaths(run_dir), slurm)
    found = preflight(resolved, request, run_dir, script, slurm)
    found.raise_if_bad()
    return found.notes, found.seconds


def _submit(
    resolved: Resolved, paths: RunPaths, slurm: Slurm, prepare: bool, *, disposable: bool
) -> tuple[Job | None, str | None]:
    """One submission at a time, and none for a run that is under way.

    Args:
        disposable: the run was made for this submission, in a folder that was not there before:
            if it fails, nothing of it stays.
    """
    request = make_request(resolved)
    note_backbone(resolved, paths)
    aside: Path | None = None
    try:
        with submitting(paths):
            _refuse_live(paths, slurm)
            try:
                marks = (paths.failed, paths.cancelled, paths.without_progress)
                with put_back_on_error(*marks, but_not=NoAnswer):
                    if prepare:
                        return None, prepare_job(resolved, request, paths, slurm)
                    if resolved.site.scheduler == LOCAL:
                        job = start_local(resolved, request, paths)
                    else:
                        job = start_slurm(resolved, request, paths, slurm)
            except NoAnswer:
                raise  # the job may be in the queue, and would find nothing
            except BaseException:
                # While submissions are locked: nobody else has submitted it meanwhile.
                aside = set_aside(paths.root) if disposable else None
                raise
            prune_job_files(paths, _KEPT_JOBS)
            return job, None
    except SlurmError as error:
        raise _refused(error) from None
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def _refuse_live(paths: RunPaths, slurm: Slurm) -> None:
    found = live(paths, slurm)
    if found is not None:
        job, facts = found
        raise UsageError(
            f"{paths.root}: a job of this run is {facts.state.lower()} already",
            got=f"job {job.id}, submitted {job.submitted or 'by hand'}",
            action=f"`harness status {paths.root}` shows it, `harness cancel {paths.root}` ends "
            "it; --new begins another run",
        )
    holder = lock_holder(paths)
    if holder is not None:
        raise UsageError(
            f"{paths.root}: another process trains this run",
            got=str(holder),
            action=f"wait for its end, or stop it; `harness status {paths.root}` shows it",
        )


def _refused(error: SlurmError) -> UsageError:
    return UsageError(
        "SLURM refused the job; nothing was submitted",
        got=str(error),
        action="correct the fields of cluster; without --no-preflight each is checked by name",
    )


def _next(paths: RunPaths, job: Job | None) -> tuple[str, ...]:
    where = shlex.quote(os.path.relpath(paths.root))
    if job is None:
        return (f"harness status {where}",)
    return (
        f"harness status {where}",
        f"harness logs -f {where}",
        f"harness cancel {where}",
        f"tensorboard --logdir {where}/tensorboard",
    )
