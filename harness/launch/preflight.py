"""The checks against the live cluster, before anything is queued.

A job that asks for what the cluster has not is refused by SLURM in three words, or, more often,
accepted and never started.  So the cluster is asked first, a handful of short questions at once,
and each finding is told like a problem of the spec, with its line.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from harness.errors import EnvironmentNotAble
from harness.launch.cluster_facts import Facts, read_facts
from harness.launch.planning import files_of_the_run
from harness.launch.preflight_account import ask_parents, ask_user, check_account
from harness.launch.preflight_partition import check_chain, check_partitions
from harness.launch.preflight_report import Preflight, Report
from harness.launch.preflight_test_only import check_test_only
from harness.launch.quota import check_storage
from harness.launch.request import Request
from harness.launch.shared_fs import check_shared
from harness.launch.site_checks import check_site
from harness.launch.slurm import Slurm, last_line
from harness.runs.storage import owner_name
from harness.spec import Resolved

Done = subprocess.CompletedProcess[str]

_ASK_S = 60.0
_FILES_OF_A_RANK = 3
_FILES_OF_A_JOB = 4


def preflight(
    resolved: Resolved, request: Request, run_dir: Path, script: str | None, slurm: Slurm
) -> Preflight:
    """Checks a job against the cluster, the file systems and the quota.  Queues nothing.

    Args:
        run_dir: directory of the run; need not exist yet.
        script: text of the batch script, which ``sbatch --test-only`` then judges; None leaves
            that out.
    """
    begun = time.monotonic()
    report = Report(resolved)
    try:
        slurm.require()
        slurm.ping()
        _check(report, request, run_dir, script, slurm)
    except EnvironmentNotAble as error:
        # With no SLURM there, all else is guessing.
        return Preflight((error,), (), time.monotonic() - begun)
    return report.finish(time.monotonic() - begun)


def _check(
    report: Report, request: Request, run_dir: Path, script: str | None, slurm: Slurm
) -> None:
    resolved = report.resolved
    files = files_of_the_run(resolved.spec) + files_of_the_jobs(request)
    with ThreadPoolExecutor(max_workers=6) as pool:

        def ask(*words: str) -> Future[Done]:
            return pool.submit(slurm.run, *words, check=False, timeout_s=_ASK_S)

        tested = pool.submit(_test_only, slurm, script)
        settings = ask("scontrol", "show", "config")
        # --all: hidden partitions can be used by those who know their name.
        partitions = ask("scontrol", "--all", "--oneliner", "show", "partition")
        nodes = ask("scontrol", "--all", "--oneliner", "show", "node")
        accounts = pool.submit(ask_user, slurm, owner_name(os.getuid()))
        stored = pool.submit(check_storage, resolved.site.quota_command, run_dir, files)
        facts = _facts(settings.result(), partitions.result(), nodes.result())
        chosen, fit = check_partitions(report, request, facts)
        parents = partial(ask_parents, slurm)
        check_account(report, request, facts, chosen, accounts.result(), parents)
        check_chain(report, request, facts)
        check_site(report, request)
        check_test_only(report, tested.result(), fit)
        problems, notes = stored.result()
    hosts = {node.host for part in chosen for node in facts.nodes_of(part.name)}
    check_shared(report, run_dir, hosts)
    report.storage += problems
    for note in notes:
        report.note(note)


def files_of_the_jobs(request: Request) -> int:
    """Files in ``slurm/`` when every job of the run leaves all that it can.

    Logs grow over requeues and only the jobs of a chain have logs of their own; a script and
    pickles a submission; an outcome for each attempt.
    """
    jobs = request.max_attempts if request.continue_by == "chain" else 1
    per_job = _FILES_OF_A_RANK * request.ranks
    return _FILES_OF_A_JOB + jobs * per_job + request.max_attempts


def _facts(settings: Done, partitions: Done, nodes: Done) -> Facts:
    for name, done in (("config", settings), ("partition", partitions), ("node", nodes)):
        if done.returncode:
            raise EnvironmentNotAble(
                f"`scontrol show {name}` failed",
                got=last_line(done.stderr or done.stdout),
                action="ask the cluster's operators, or submit with --no-preflight",
            )
    return read_facts(settings.stdout, partitions.stdout, nodes.stdout)


def _test_only(slurm: Slurm, script: str | None) -> Done | None:
    if script is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
        file.write(script)
        file.flush()
        return slurm.run("sbatch", "--test-only", file.name, check=False, timeout_s=_ASK_S)
