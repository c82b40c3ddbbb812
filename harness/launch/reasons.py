"""SLURM's reasons and end states in words, and what to do about them.  Pure.

Sources: the job reason codes and job state codes of SLURM's manual (squeue(1)) up to 24.05.
"""

from __future__ import annotations

import re

_HELD = "`scontrol release {job}` lets it go on"
_ASK = "ask the cluster's operators"
_AGAIN = "cancel it and submit it with other values: `harness cancel`, `harness resume -o ...`"

# reason: (why it waits, what to do; None where waiting is all there is to do)
_WAITS: dict[str, tuple[str, str | None]] = {
    "None": ("SLURM has not looked at it yet", None),
    "WaitingForScheduling": ("SLURM has not looked at it yet", None),
    "Priority": ("other jobs come first", None),
    "Resources": ("it is among the next, and the nodes it needs are not free yet", None),
    "Dependency": ("it waits for another job to end", None),
    "DependencyNeverSatisfied": (
        "it waits for another job to end in a way that can no longer happen, so it never starts",
        _AGAIN,
    ),
    "JobHeldUser": ("it is held by its user", _HELD),
    "JobHeldAdmin": ("it is held by an administrator", _ASK),
    "JobHoldMaxRequeue": ("it was requeued too often and is held", _HELD),
    "launch failed requeued held": (
        "its last start failed on the node, and SLURM holds it so that it does not fail again",
        _HELD + "; if it fails again, " + _ASK,
    ),
    "job requeued in held state": ("it was requeued and is held", _HELD),
    "BeginTime": ("its earliest start time has not come yet; after a requeue SLURM sets one", None),
    "JobArrayTaskLimit": ("the job of the chain before it still runs", None),
    "Licenses": ("a licence that it asks for is in use", None),
    "Reservation": ("its reservation has not begun, or is full", None),
    "ReservationDeleted": ("its reservation is gone, so it never starts", _AGAIN),
    "InvalidReservation": ("its reservation does not exist for you, so it never starts", _AGAIN),
    "PartitionDown": ("its partition is down", _ASK),
    "PartitionInactive": ("its partition takes no jobs at present", _ASK),
    "PartitionNodeLimit": (
        "it asks for more nodes than its partition allows, or the partition has too few that work",
        _AGAIN,
    ),
    "PartitionTimeLimit": ("its time limit is above that of its partition", _AGAIN),
    "PartitionConfig": ("its partition does not have what it asks for", _AGAIN),
    "AccountNotAllowed": ("its account may not use this partition", _AGAIN),
    "QOSNotAllowed": ("its QOS may not be used by this account or partition", _AGAIN),
    "InvalidAccount": ("its account is not valid", _AGAIN),
    "InvalidQOS": ("its QOS is not valid", _AGAIN),
    "BadConstraints": ("no node has the features or resources that it asks for", _AGAIN),
    "NodeDown": ("a node that it needs is down", None),
    "ReqNodeNotAvail": (
        "nodes that it needs are down, drained or reserved (often for maintenance)",
        "`sinfo -R` and `scontrol show reservation` say more; with a shorter cluster.time it may "
        "fit in before",
    ),
    "FrontEndDown": ("no front end node is up", _ASK),
    "Cleaning": ("what its last start left on the nodes is being removed", None),
    "Prolog": ("the site's prolog runs on its nodes", None),
    "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions": (
        "nodes that it needs are down, drained or kept for partitions with a higher priority",
        None,
    ),
    "DeadLine": ("it can no longer end before its deadline", _AGAIN),
    "OutOfMemory": ("its last start needed more memory than it had asked for", _AGAIN),
    "NonZeroExitCode": ("its last start ended with an error", None),
    "JobLaunchFailure": ("its last start failed on the node", _ASK),
    "TimeLimit": ("its last start came to its time limit", None),
    "BurstBufferResources": ("the burst buffer is full", None),
    "BurstBufferStageIn": ("its data are being staged in", None),
    "SchedDefer": ("the site starts jobs in intervals", None),
    "SystemFailure": ("SLURM or a node failed at its last start", None),
    "user env retrieval failed requeued held": ("the user's environment was not found", _HELD),
}
_WHOSE = {"QOS": "the QOS", "Assoc": "your account"}
_LIMIT = re.compile(r"^(QOS|Assoc|MaxPer|Max|Grp)")
_WHAT = (
    ("GRES", "GPUs or other devices"),
    ("Cpu", "CPU cores"),
    ("CPU", "CPU cores"),
    ("Mem", "memory"),
    ("Node", "nodes"),
    ("Jobs", "jobs"),
    ("Submit", "submitted jobs"),
    ("Wall", "time"),
    ("RunMinutes", "time of running jobs"),
    ("Minutes", "computing time"),
    ("BB", "burst buffer"),
    ("License", "licences"),
    ("Billing", "billing units"),
    ("Energy", "energy"),
)

_ENDS = {
    "TIMEOUT": "SLURM ended it at its time limit{limit}",
    "NODE_FAIL": "a node of it failed{nodes}",
    "OUT_OF_MEMORY": "it used more memory than it had asked for, and SLURM ended it",
    "BOOT_FAIL": "a node of it could not be booted",
    "DEADLINE": "it could not end before its deadline",
    "PREEMPTED": "a job of a higher priority took its place, and SLURM has not queued it again",
    "CANCELLED": "it was cancelled{by}",
    "REVOKED": "it was moved to another cluster of the federation",
    "FAILED": "it ended with {exit}",
    "COMPLETED": "it ended with code 0",
    "ENDED": "its process on this machine has ended",
}


def why_waiting(reason: str | None) -> str:
    """Why a job waits, by SLURM's reason; one that is not known here is shown as it is."""
    known = _lookup(reason)
    if known is not None:
        return known[0]
    return _limit(reason or "") or f"SLURM says {reason}"


def what_to_do(reason: str | None, job: str) -> str | None:
    """What helps a job that waits for this reason; None where only waiting does."""
    known = _lookup(reason)
    return known[1].format(job=job) if known is not None and known[1] else None


def why_ended(
    state: str,
    *,
    exit_code: int | None = None,
    signal: int | None = None,
    limit: str = "",
    nodes: str = "",
    by: str = "",
) -> str:
    """How a job ended, by SLURM's state; texts in words, empty where they are not known."""
    how = "an error, and SLURM does not say which"
    if signal:
        how = f"signal {signal}"
    elif exit_code is not None:
        how = f"exit code {exit_code}"
    text = _ENDS.get(state, f"SLURM says {state}")
    return text.format(
        limit=f" of {limit}" if limit else "",
        nodes=f" ({nodes})" if nodes else "",
        by=f" by {by}" if by else "",
        exit=how,
    )


def _lookup(reason: str | None) -> tuple[str, str | None] | None:
    """The entry of a reason; SLURM adds details behind a comma, and writes _ for spaces."""
    text = reason or "None"
    for name in (text, text.replace("_", " "), re.split(r"[,(]", text, maxsplit=1)[0].strip()):
        if name in _WAITS:
            return _WAITS[name]
    return None


def _limit(reason: str) -> str | None:
    """Words for a limit, such as ``QOSMaxCpuPerUserLimit`` or ``AssocGrpGRESMinutes``."""
    found = _LIMIT.match(reason)
    if found is None:
        return None
    whose = _WHOSE.get(found[1], "your user")
    things = [words for part, words in _WHAT if part in reason]
    more = " and jobs of yours use it up" if "Grp" in reason or "PerUser" in reason else ""
    of = f" of {things[0]}" if things else ""
    return f"a limit{of} that {whose} has is reached{more} ({reason})"
