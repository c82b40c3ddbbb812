"""A cluster as larger sites would print it, and what the checks before a submission find there."""

from __future__ import annotations

from dataclasses import replace

from spec_helpers import MINIMAL

from harness.launch.cluster_facts import Facts, read_facts
from harness.launch.preflight_partition import check_partitions
from harness.launch.preflight_report import Report
from harness.launch.request import Request
from harness.spec import load_spec

SETTINGS = """\
Configuration data as of 2024-05-01T12:00:00
AccountingStorageEnforce = associations,limits,qos,safe
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = big
DefMemPerCPU            = 4000
MaxArraySize            = 1001
PreemptType             = preempt/partition_prio
"""
PARTITION = (
    "PartitionName={name} AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL Default={default} "
    "DefaultTime=NONE GraceTime=0 Hidden=NO MaxNodes={most} MaxTime=2-00:00:00 MinNodes=0 "
    "MaxCPUsPerNode=UNLIMITED PriorityTier={tier} PreemptMode={mode} State=UP "
    "DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=24,mem=24000M"
)
NODE = (
    "NodeName={name} Arch=x86_64 CoresPerSocket=32 CPUAlloc=0 CPUEfctv={cpus} CPUTot=64 "
    "AvailableFeatures={features} ActiveFeatures={features} Gres={gres} NodeAddr={name} "
    "NodeHostName={name} OS=Linux 5.14.0 #1 SMP PREEMPT_DYNAMIC RealMemory={memory} "
    "State={state} ThreadsPerCore=2 Partitions={partitions} CfgTRES=cpu=64 "
    "Reason=State=IDLE Gres=gpu:99 said somebody [root@2024-04-01T00:00:00]"
)


def node(
    name: str,
    *,
    cpus: int = 62,
    memory: int = 250_000,
    gres: str = "gpu:a100:4(S:0-1)",
    state: str = "IDLE",
    features: str = "(null)",
    partitions: str = "gpu,long",
) -> str:
    return NODE.format(**locals())


def facts(*nodes: str, most: str = "UNLIMITED", mode: str = "OFF") -> Facts:
    lines = [
        PARTITION.format(name="gpu", default="YES", most=most, tier=1, mode=mode),
        PARTITION.format(name="long", default="NO", most="UNLIMITED", tier=5, mode="OFF"),
    ]
    return read_facts(SETTINGS, "\n".join(lines), "\n".join(nodes))


def report() -> Report:
    return Report(load_spec(MINIMAL))


def asked(**changes: object) -> Request:
    return replace(Request("t", partition="gpu", time_s=3600, mem_gb=10), **changes)


def findings(request: Request, of: Facts) -> tuple[list[tuple[str | None, str | None]], Report]:
    own = report()
    check_partitions(own, request, of)
    return [(problem.path, problem.allowed) for problem in own.wrong], own
