"""What ``sbatch --test-only`` says of the script, in the words of the fields that it is about."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from harness.launch.preflight_partition import Fit
from harness.launch.preflight_report import Report
from harness.spec.base import show
from harness.spec.models_cluster import OWN_FIELD

_START = re.compile(r"Job \S+ to start at (\S+) using \d+ processors on (?:nodes? )?(.+)")
_PREFIX = re.compile(r"^(?:sbatch: )?(?:error: |fatal: |allocation failure: )?")
_OPTION = re.compile(
    r"(?:unrecognized option|option) '--([a-z][a-z-]*)|[Ii]nvalid --([a-z][a-z-]*) "
)
_GIVEN_UP = "Unspecified error"
_USAGE = 'Try "sbatch --help"'
_NODES = "cluster.nodes"
_SIZE = (
    _NODES,
    "cluster.gpus_per_node",
    "cluster.gpu_type",
    "cluster.cpus_per_rank",
    "cluster.cpus_per_gpu",
    "cluster.mem_gb",
    "cluster.constraint",
)
_PARTITION = "cluster.partition"


@dataclass(frozen=True)
class _Rule:
    """A message of SLURM: what it means, which field it is about, and which fields, where a
    check has named one of them already, make it old news."""

    text: str
    path: str | None
    what: str
    action: str
    same: tuple[str, ...] = ()


_RULES = tuple(
    _Rule(*rule)
    for rule in (
        (
            "nvalid account or account/partition",
            "cluster.account",
            "SLURM does not let you use this account in this partition",
            "name an account of yours; `sacctmgr show assoc user=$USER` lists them",
            (_PARTITION,),
        ),
        (
            "nvalid qos",
            "cluster.qos",
            "SLURM does not let you use this QOS",
            "name a QOS of yours; `sacctmgr show assoc user=$USER` lists them",
            ("cluster.account",),
        ),
        (
            "nvalid partition",
            _PARTITION,
            "there is no such partition",
            "name one that `sinfo` shows",
        ),
        (
            "No partition specified",
            _PARTITION,
            "is not given, and this cluster has no default partition",
            "name one that `sinfo` shows",
        ),
        (
            "partition not available",
            _PARTITION,
            "this partition takes no jobs now",
            "choose another, or wait",
        ),
        (
            "group not permitted to use this partition",
            _PARTITION,
            "none of your groups may use this partition",
            "choose another partition",
        ),
        (
            "nvalid feature specification",
            "cluster.constraint",
            "names a feature that no node has",
            "write one that `sinfo -o %f` shows",
        ),
        (
            "nvalid generic resource",
            "cluster.gpus_per_node",
            "SLURM does not know GPUs by this name here",
            "correct gres in the site's profile",
        ),
        (
            "equested time limit is invalid",
            "cluster.time",
            "SLURM does not accept this time limit",
            "write less; `sinfo -o '%P %l'` shows the longest of each partition",
        ),
        (
            "ode count specification invalid",
            _NODES,
            "SLURM does not accept this number of nodes",
            "ask for fewer nodes",
            _SIZE,
        ),
        (
            "nvalid job array",
            "cluster.max_attempts",
            "SLURM does not accept a chain of so many jobs",
            "write less",
        ),
        (
            "reservation is invalid",
            "cluster.sbatch.reservation",
            "SLURM does not let you use this reservation",
            "name one that `scontrol show reservation` shows",
        ),
        (
            "nvalid license",
            "cluster.sbatch.licenses",
            "SLURM does not know these licenses",
            "write some that `scontrol show licenses` shows",
        ),
        (
            "nvalid node name",
            "cluster.sbatch.nodelist",
            "SLURM does not know these nodes",
            "write some that `sinfo -N` shows",
        ),
        (
            "Job violates accounting/QOS policy",
            "cluster.qos",
            "the job is beyond a limit of your account or QOS",
            "ask for less, or another QOS; `sacctmgr show qos` shows limits",
            ("cluster.account", "cluster.time", *_SIZE),
        ),
    )
)
_FITS_NOWHERE = (
    "equested node configuration is not available",
    "More processors requested than permitted",
    "Memory required by task is not available",
    "odes required for job are DOWN",
)


def check_test_only(
    report: Report, done: subprocess.CompletedProcess[str] | None, fit: Fit
) -> None:
    """Adds what SLURM itself refuses, unless a check above has found the same already.

    Args:
        done: how ``sbatch --test-only`` ended; None if it was not asked.
    """
    if done is None:
        report.note("the batch script was not given to `sbatch --test-only`")
        return
    said = _said(done.stderr + "\n" + done.stdout)
    if done.returncode == 0:
        start = next((m for m in map(_START.search, said) if m), None)
        if start and not report.wrong:
            report.note(f"SLURM estimates a start at {start[1]} on {start[2]}")
        return
    whole = "; ".join(said) or "it gave no reason"
    if any(sign in whole for sign in _FITS_NOWHERE):
        _fits_nowhere(report, whole, fit)
        return
    for rule in _RULES:
        if rule.text in whole and rule.path is not None:
            if not report.names(rule.path, *rule.same):
                report.add(rule.path, rule.what, show(whole, 300), None, rule.action)
            return
    option = _OPTION.search(whole)
    if option is not None:
        _option(report, option[1] or option[2], whole)
        return
    report.add(
        None,
        "SLURM would refuse the job (sbatch --test-only)",
        show(whole, 300),
        None,
        "correct the fields of cluster; `harness submit SPEC --dry-run` shows the script",
    )


def _said(text: str) -> list[str]:
    """The sentences of sbatch and of the site's own submit plug-in, without their openings."""
    lines = [_PREFIX.sub("", line.strip()) for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(_USAGE)]
    return [line for line in kept if line != _GIVEN_UP] or kept


def _fits_nowhere(report: Report, whole: str, fit: Fit) -> None:
    """The one message for everything that has to do with size and with nodes that are down."""
    if report.names(*_SIZE, _PARTITION):
        return
    if fit.waits:
        report.note("SLURM cannot tell when the job will start, since nodes for it are down")
        return
    report.add(
        "cluster",
        "SLURM has no nodes for what is asked, and does not say what of it is too much",
        show(whole, 300),
        None,
        "ask for less, look at cluster.sbatch, or choose another partition",
    )


def _option(report: Report, option: str, whole: str) -> None:
    path = OWN_FIELD.get(option) or f"cluster.sbatch.{option}"
    if report.names(path):
        return
    what = "sbatch of this cluster does not know this option"
    if "nrecognized" not in whole:
        what = "sbatch of this cluster does not accept this value"
    report.add(path, what, show(whole, 300), None, "correct or remove it; see `man sbatch`")
