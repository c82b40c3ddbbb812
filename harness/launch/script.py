"""The batch script of a run: the options, the lines around the step, and the step itself.  Pure.

submitit puts them together (see :mod:`harness.launch.executors`); ``protocol.sh`` beside this
file holds the functions that every script has.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.launch.container import INSIDE, Inside
from harness.launch.environment_lines import cleanup_lines, environment_lines
from harness.launch.request import Request
from harness.launch.scrubbed import unset_line
from harness.runs.paths import RunPaths
from harness.spec import Site
from harness.worker.entry import START

PROTOCOL = Path(__file__).with_name("protocol.sh")
_END_OF_RANKS_S = 360
"""What srun leaves the others once the first rank has ended; they leave together, after a
barrier, so one that stays this long will not come any more.  It is longer than they wait for one
another at the start, so that they can say who did not come."""


def parameters(
    request: Request,
    paths: RunPaths,
    site: Site,
    access: str,
    python: str | None = None,
    *,
    inside: Inside | None = None,
    prepared: bool = False,
    resume: str | None = None,
) -> dict[str, Any]:
    """Arguments for ``update_parameters`` of submitit's SLURM executor.

    Args:
        access: of the run; who may read what the job writes.
        python: of the ranks where the site names none; None is the one that submits.
        inside: the container of the ranks.
        prepared: sbatch will be called by hand, in a shell of which nothing is known.
        resume: command that goes on by hand; None is that of a run.

    Raises:
        UsageError: the path of the run cannot stand in a batch script.
    """
    check_path(paths)
    return {
        "job_name": request.name,
        "nodes": request.nodes,
        "ntasks_per_node": request.ranks_per_node,
        "cpus_per_task": request.cpus_per_rank,
        "time": None if request.time_s is None else clock(request.time_s),
        "mem": None if request.mem_gb is None else f"{request.mem_gb}G",
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "constraint": request.constraint,
        "wckey": None,  # submitit's own would be refused where these are enforced
        "setup": [
            *([unset_line()] if prepared else []),
            *setup_lines(request, paths, site, access, python, inside, resume),
        ],
        "teardown": teardown_lines(site, inside),
        "use_srun": False,  # the step runs in the background, see protocol.sh
        "additional_parameters": _options(request, paths),
    }


def check_path(paths: RunPaths) -> None:
    """Raises UsageError for a path with which SLURM would do something else than write there."""
    text = str(paths.root)
    # SLURM and submitit both put ids in the place of %j and the like.
    if not text.isprintable() or "\\" in text or "%" in text:
        raise UsageError(
            "the path of the run cannot stand in a batch script",
            got=ascii(text),
            allowed="printable characters, no backslash and no %",
            action="choose another folder with --run-dir or --runs-root",
        )


def _log(request: Request, paths: RunPaths, rank: str, end: str) -> str:
    """The pattern of a log's name, as SLURM fills it in."""
    job = "%A_%a" if request.continue_by == "chain" else "%j"
    return str(paths.slurm / paths.job_log("JOB", 0, end).name.replace("JOB_0", f"{job}_{rank}"))


def _options(request: Request, paths: RunPaths) -> dict[str, str | int | bool]:
    """What submitit has no argument for, or sets otherwise."""
    options: dict[str, str | int | bool] = {
        "output": _log(request, paths, "0", "out"),
        "error": _log(request, paths, "0", "err"),
        "signal": f"B:USR2@{request.lead_s}",
        # A site's default would decide otherwise, and it is also what node failures need.
        "requeue" if request.continue_by != "none" else "no-requeue": True,
    }
    if request.gpus_per_node:
        kind = f":{request.gpu_type}" if request.gpu_type else ""
        options["gres"] = f"{request.gres}{kind}:{request.gpus_per_node}"
    if request.time_floor_s is not None:
        options["time-min"] = clock(request.time_floor_s)
    if request.continue_by == "chain":
        options["array"] = f"0-{request.max_attempts - 1}%1"
    return options | {name: value for name, value in request.more.items() if value is not False}


def clock(seconds: int) -> str:
    """``H:MM:SS``, as SLURM reads it."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def setup_lines(
    request: Request,
    paths: RunPaths,
    site: Site,
    access: str,
    python: str | None = None,
    inside: Inside | None = None,
    resume: str | None = None,
) -> list[str]:
    """Lines in front of the step: facts of this run, the protocol, the site's environment."""
    quoted = shlex.quote
    resume = resume or f"harness resume {quoted(str(paths.root))}"
    tasks = request.max_attempts if request.continue_by == "chain" else None
    noted = f', "site": "{site.name}", "ranks": {request.ranks}'
    if tasks is not None:
        noted += f', "tasks": {tasks}'
    return [
        f"umask {'007' if access == 'group' else '077'}",
        f"harness_run={quoted(str(paths.root))}",
        f"harness_resume={quoted(resume)}",
        f"harness_continue={request.continue_by}",
        f"harness_max_attempts={request.max_attempts}",
        f"harness_last_task={request.max_attempts - 1}",
        f"harness_noted={quoted(noted)}",
        "",
        *PROTOCOL.read_text(encoding="utf-8").rstrip().split("\n"),
        "",
        "harness_start",
        "",
        "# the environment of the ranks",
        *environment_lines(site, python, inside),
    ]


def teardown_lines(site: Site, inside: Inside | None = None) -> list[str]:
    """Lines behind the step."""
    return [*cleanup_lines(site, inside), "harness_end"]


def step_command(
    request: Request, paths: RunPaths, pickle: str | None = None, *, contained: bool = False
) -> str:
    """The shell command that starts all ranks and waits for them.

    Args:
        pickle: name of the pickled call in ``slurm/``; None is submitit's, made of the job's id.
        contained: srun starts every rank in the container that the setup lines have entered.
    """
    words = [
        "srun",
        "--unbuffered",
        f"--output={_log(request, paths, '%t', 'out')}",
        f"--error={_log(request, paths, '%t', 'err')}",
        "--open-mode=append",
        "--kill-on-bad-exit=1",
        f"--wait={_END_OF_RANKS_S}",
        # Since SLURM 22.05 srun no longer takes it from the job.
        f"--cpus-per-task={request.cpus_per_rank}",
    ]
    folder = shlex.quote(str(paths.slurm))
    name = '"${harness_job}_submitted.pkl"' if pickle is None else shlex.quote(pickle)
    if pickle is None and request.continue_by == "chain":
        name = '"${SLURM_ARRAY_JOB_ID}_submitted.pkl"'
    within = f"{INSIDE} " if contained else ""
    start = f'{within}"$harness_python" -u -c {shlex.quote(START)} {folder} {name}'
    return f"harness_step {shlex.join(words)} {start}"
