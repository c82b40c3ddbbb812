"""What the test cluster is: its configurations, and the files that SLURM reads for them."""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import dataclass
from pathlib import Path

CLUSTER = "harness"
NODES = ("n1", "n2", "n3")
GPU_FILES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
"""What stands for GPUs: SLURM wants device files, and these are on every machine."""
GPUS_PER_NODE = len(GPU_FILES)
CPUS_PER_NODE = 8
MEMORY_PER_NODE_MB = 8000
ACCOUNT = "research"
"""The user's account.  ``OTHER_ACCOUNT`` exists, but the user is not in it."""
OTHER_ACCOUNT = "teaching"
QOS = "short"
"""A QOS that the user may ask for, besides SLURM's ``normal``.  ``OTHER_QOS`` is refused."""
OTHER_QOS = "urgent"


@dataclass(frozen=True)
class Configuration:
    """One way in which a site may have set up its SLURM."""

    name: str
    accounting: bool = True
    """slurmdbd with a database, so that ``sacct`` answers and accounts are enforced."""
    user_signal: bool = True
    """A preempted job gets the signal it asked for with ``--signal``, not only SIGTERM."""
    requeue: bool = True
    """``JobRequeue``: jobs that say nothing about it may be requeued; ``--requeue`` beats it."""
    refuse_requeue: bool = False
    """The site takes ``--requeue`` away from every job at submission (``job_submit.lua``)."""
    grace_s: int = 15
    """What a preempted job has between the signal and SIGKILL."""
    kill_wait_s: int = 5
    """What a job has between SIGTERM at its time limit, or when cancelled, and SIGKILL."""
    requeue_wait_s: int = 10
    """How long a requeued job waits at least; SLURM's own default is 120."""
    limit_memory: bool = False
    """A step that takes more memory than its job has is killed, as looked at every second."""
    min_job_age_s: int = 300
    """How long ``squeue`` and ``scontrol`` remember a job that has ended."""


CONFIGURATIONS = {
    configuration.name: configuration
    for configuration in (
        Configuration("default"),
        Configuration("no_accounting", accounting=False),
        Configuration("no_user_signal", user_signal=False),
        Configuration("no_requeue", requeue=False),
        Configuration("requeue_refused", requeue=False, refuse_requeue=True),
        Configuration("limited_memory", limit_memory=True),
    )
}


@dataclass(frozen=True)
class Ports:
    """TCP ports on loopback, one for each daemon that listens."""

    slurmctld: int
    slurmdbd: int
    slurmd: tuple[int, ...]


def host_name() -> str:
    """The name by which SLURM knows this machine: what stands before the first dot."""
    return socket.gethostname().split(".")[0]


def user_name() -> str:
    """The login name of whoever runs this process, and so of the daemons and of the jobs."""
    return pwd.getpwuid(os.getuid()).pw_name


_LIMITS_MEMORY = ["JobAcctGatherParams=OverMemoryKill", "JobAcctGatherFrequency=task=1"]


def slurm_conf(configuration: Configuration, folder: Path, ports: Ports) -> str:
    """The text of ``slurm.conf``."""
    sections = (
        _files(folder, ports, configuration),
        _scheduling(configuration),
        _accounting(configuration, folder, ports),
        _nodes(ports),
        _partitions(configuration),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _files(folder: Path, ports: Ports, configuration: Configuration) -> list[str]:
    user = user_name()
    return [
        f"ClusterName={CLUSTER}",
        f"SlurmctldHost={host_name()}(127.0.0.1)",
        f"SlurmctldPort={ports.slurmctld}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        # A requeued job waits until credentials of its former start have expired.
        f"AuthInfo=socket={folder}/munge.socket,cred_expire={configuration.requeue_wait_s}",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool-%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        "SlurmctldDebug=info",
        "SlurmdDebug=info",
        "MailProg=/bin/true",
        # Nobody outside this machine reaches these daemons.
        "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny",
        # Neither cgroups nor CPU binding: several nodes share one machine, perhaps a container.
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "ReturnToService=2",
        # On a machine busy with training, answers may take long.
        "MessageTimeout=60",
        "SlurmdTimeout=600",
    ]


def _scheduling(configuration: Configuration) -> list[str]:
    chosen = []
    if configuration.user_signal:
        chosen.append("SlurmctldParameters=preempt_send_user_signal")
    if configuration.refuse_requeue:
        chosen.append("JobSubmitPlugins=lua")
    return [
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=2,bf_interval=2,bf_continue",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "DefMemPerCPU=500",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        *chosen,
        f"JobRequeue={int(configuration.requeue)}",
        f"KillWait={configuration.kill_wait_s}",
        f"MinJobAge={configuration.min_job_age_s}",
        "OverTimeLimit=0",
    ]


def _accounting(configuration: Configuration, folder: Path, ports: Ports) -> list[str]:
    if not configuration.accounting:
        return ["AccountingStorageType=accounting_storage/none"]
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        "AccountingStorageHost=127.0.0.1",
        f"AccountingStoragePort={ports.slurmdbd}",
        # For slurmdbd, SLURM takes the path of munged's socket from here, not from AuthInfo.
        f"AccountingStoragePass={folder}/munge.socket",
        "AccountingStorageEnforce=associations,limits,qos",
        "AccountingStorageTRES=gres/gpu",
        "JobAcctGatherType=jobacct_gather/linux",
        *(_LIMITS_MEMORY if configuration.limit_memory else []),
    ]


def _nodes(ports: Ports) -> list[str]:
    """Each node claims more CPUs than its share of this machine, which SLURM is told to believe."""
    facts = f"CPUs={CPUS_PER_NODE} RealMemory={MEMORY_PER_NODE_MB} Gres=gpu:{GPUS_PER_NODE}"
    where = f"NodeHostname={host_name()} NodeAddr=127.0.0.1"
    return [
        "SlurmdParameters=config_overrides",
        "GresTypes=gpu",
        *(
            f"NodeName={node} {where} Port={port} {facts} State=UNKNOWN"
            for node, port in zip(NODES, ports.slurmd, strict=True)
        ),
    ]


def _partitions(configuration: Configuration) -> list[str]:
    nodes = f"Nodes={','.join(NODES)} State=UP DefaultTime=10:00"
    grace = f"PreemptMode=REQUEUE GraceTime={configuration.grace_s}"
    return [
        f"PartitionName=low {nodes} Default=YES PriorityTier=1 MaxTime=1-0 {grace}",
        f"PartitionName=high {nodes} PriorityTier=10 MaxTime=2:00:00 PreemptMode=OFF",
    ]


def slurmdbd_conf(folder: Path, ports: Ports) -> str:
    """The text of ``slurmdbd.conf``; the database listens on a socket of the same folder."""
    lines = [
        f"AuthInfo=socket={folder}/munge.socket",
        f"DbdHost={host_name()}",
        "DbdAddr=127.0.0.1",
        f"DbdPort={ports.slurmdbd}",
        f"SlurmUser={user_name()}",
        f"PidFile={folder}/slurmdbd.pid",
        "DebugLevel=info",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",
        "StorageUser=slurm",
        "StorageLoc=slurm_acct_db",
    ]
    return "\n".join(lines) + "\n"


def gres_conf() -> str:
    """The text of ``gres.conf``: every node has the same fake GPUs."""
    return f"NodeName={','.join(NODES)} Name=gpu File={','.join(GPU_FILES)}\n"


JOB_SUBMIT_LUA = """\
function slurm_job_submit(job, partitions, uid)
    job.requeue = 0
    return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
    return slurm.SUCCESS
end
"""
