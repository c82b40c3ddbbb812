"""The pure parts of the checks before a submission, with what larger sites would print."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_helpers import MINIMAL

from harness.errors import EnvironmentNotAble, Problem, SpecError, StorageError
from harness.launch.cluster_facts import Facts, Node, read_facts, read_gres, words
from harness.launch.preflight import files_of_the_jobs
from harness.launch.preflight_account import check_account
from harness.launch.preflight_partition import Fit, check_chain, check_partitions, duration
from harness.launch.preflight_report import Preflight, Report
from harness.launch.preflight_test_only import check_test_only
from harness.launch.request import Request
from harness.launch.shared_fs import Mount, judge, mount_of, read_mounts, verdict
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


# ---- reading


def test_a_nodes_line_is_read_and_its_reason_believed_nothing() -> None:
    (one,) = facts(node("g1", features="ib,avx", state="IDLE+DRAIN")).nodes
    assert one == Node(
        "g1",
        "g1",
        "IDLE+DRAIN",
        62,
        250_000,
        (("gpu", "a100", 4),),
        frozenset({"ib", "avx"}),
        frozenset({"gpu", "long"}),
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("(null)", ()),
        ("gpu:4", (("gpu", "", 4),)),
        ("gpu:a100:4(S:0-1),nvme:1", (("gpu", "a100", 4), ("nvme", "", 1))),
        ("gpu:a100:4(S:0,2),gpu:v100:2", (("gpu", "a100", 4), ("gpu", "v100", 2))),
        ("gpu", (("gpu", "", 1),)),
        ("gpu:tesla", (("gpu", "tesla", 1),)),
        ("bandwidth:lustre:no_consume:4G", (("bandwidth", "lustre", 4 << 30),)),
    ],
)
def test_gres(text: str, wanted: tuple[tuple[str, str, int], ...]) -> None:
    assert read_gres(text) == wanted


@pytest.mark.parametrize(
    ("state", "good"),
    [
        ("IDLE", True),
        ("MIXED", True),
        ("ALLOCATED*", True),
        ("IDLE+CLOUD+POWERED_DOWN", True),
        ("IDLE+PLANNED", True),
        ("DOWN*", False),
        ("IDLE+DRAIN", False),
        ("DOWN+DRAIN", False),
        ("MIXED+DRAIN", False),
        ("DOWN+INVALID_REG", False),
        ("FUTURE", False),
    ],
)
def test_states(state: str, good: bool) -> None:
    assert facts(node("g1", state=state)).nodes[0].in_service is good


PIECES = ["NodeName=", "PartitionName=", "State=", "Gres=", "CPUTot=", "RealMemory=", "Partitions="]


@given(
    st.lists(
        st.sampled_from([*PIECES, " ", "\n", "g1", "gpu:2", ":", "(", ",", "9", "\u00b2", "="])
        | st.text(max_size=3),
        max_size=20,
    ).map("".join)
)
def test_any_line_is_read_without_an_error(text: str) -> None:
    assert all(key and "=" not in key for key in words(text))
    read_facts(text, text, text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "0:01:00"), (86_399, "23:59:59"), (90_000, "1-01:00:00")]
)
def test_durations_as_a_spec_has_them(seconds: int, text: str) -> None:
    assert duration(seconds) == text


# ---- nodes


def test_what_fits() -> None:
    found, own = findings(asked(gpus_per_node=4, gpu_type="a100"), facts(node("g1"), node("g2")))
    assert not found
    assert "2 of the 2 nodes of partition gpu can carry the job" in own.notes


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"gpus_per_node": 5}, ("cluster.gpus_per_node", "up to 4")),
        ({"gpus_per_node": 1, "gpu_type": "h100"}, ("cluster.gpu_type", "a100")),
        ({"gpus_per_node": 1, "gres": "card"}, ("cluster.gpus_per_node", "GRES gpu")),
        ({"cpus_per_rank": 63}, ("cluster.cpus_per_rank", "up to 62")),
        (
            {"cpus_per_rank": 9, "ranks_per_node": 8, "cpus_why": "cluster.cpus_per_gpu"},
            ("cluster.cpus_per_gpu", "up to 62"),
        ),
        ({"mem_gb": 245}, ("cluster.mem_gb", "up to 244 GB")),
        ({"cpus_per_rank": 62, "mem_gb": None, "more": {}}, None),
        ({"nodes": 3}, ("cluster.nodes", "up to 2")),
        ({"time_s": 3 * 86_400}, ("cluster.time", "up to 2-00:00:00")),
    ],
)
def test_the_one_thing_that_is_too_much(
    changes: dict[str, object], wanted: tuple[str, str] | None
) -> None:
    found, _ = findings(asked(**changes), facts(node("g1"), node("g2")))
    assert found == ([] if wanted is None else [wanted])


def test_memory_that_nobody_asked_for_is_the_clusters_default() -> None:
    found, own = findings(asked(mem_gb=None, cpus_per_rank=62), facts(node("g1", memory=200_000)))
    assert found == [("cluster.mem_gb", "up to 195 GB")]
    assert "the default of the cluster" in own.wrong[0].what
    found, _ = findings(
        asked(mem_gb=None, cpus_per_rank=62, more={"exclusive": True}),
        facts(node("g1", memory=200_000)),
    )
    assert not found


def test_things_that_are_too_much_only_together() -> None:
    of = facts(node("fat", memory=2_000_000, gres="(null)"), node("gpu"))
    found, own = findings(asked(gpus_per_node=2, mem_gb=1000), of)
    assert found == [
        ("cluster.mem_gb", "up to 244 GB with the rest as it is"),
        ("cluster.gpus_per_node", "up to 0 with the rest as it is"),
    ]
    assert "beside the rest" in own.wrong[0].what
    # Where each pair fails already, no single number would help.
    of = facts(
        node("a", memory=1_000_000, gres="(null)", cpus=4),
        node("b", memory=1000, gres="gpu:1", cpus=4),
        node("c", memory=1000, gres="(null)", cpus=64),
    )
    found, own = findings(asked(gpus_per_node=1, mem_gb=100, cpus_per_rank=8), of)
    assert found == [("cluster", None)]
    assert own.wrong[0].got == "8 CPU cores, 100 GB memory, 1 GPUs (gpu)"


def test_enough_nodes_of_which_too_few_fit_or_serve() -> None:
    of = facts(node("g1"), node("g2", gres="gpu:v100:4"), node("g3", state="DOWN*"))
    found, _ = findings(asked(nodes=3, gpus_per_node=1, gpu_type="a100"), of)
    assert found == [("cluster.nodes", "up to 2")]
    own = report()
    _, fit = check_partitions(own, asked(nodes=2, gpus_per_node=1, gpu_type="a100"), of)
    assert fit == Fit(True, waits=True)
    assert not own.wrong
    assert any("the job will wait" in note for note in own.notes)


def test_limits_of_a_partition() -> None:
    found, own = findings(asked(nodes=2), facts(node("g1"), node("g2"), most="1"))
    assert found == [("cluster.nodes", "up to 1")]
    assert "lets a job have 1 nodes" in own.wrong[0].what


@pytest.mark.parametrize(
    ("constraint", "nodes", "wanted"),
    [
        ("ib", 1, None),
        ("ib&avx", 1, None),
        ("ib,avx", 1, None),
        ("ib|knl", 2, None),
        ("ib&knl", 1, ("cluster.constraint", "avx, ib, knl")),
        ("ib&fast", 1, ("cluster.constraint", "avx, ib, knl")),
        ("knl", 2, ("cluster.nodes", "up to 1")),
        ("[ib*1&knl*1]", 2, None),
        ("(ib|knl)&avx", 1, None),
    ],
)
def test_constraints(constraint: str, nodes: int, wanted: tuple[str, str] | None) -> None:
    of = facts(node("g1", features="ib,avx"), node("g2", features="knl"))
    found, _ = findings(asked(constraint=constraint, nodes=nodes), of)
    assert found == ([] if wanted is None else [wanted])


def test_of_several_partitions_one_is_enough() -> None:
    of = facts(node("g1", partitions="long"), node("g2", gres="(null)"))
    found, own = findings(asked(partition="gpu,long", gpus_per_node=1), of)
    assert not found
    assert any(note.startswith("not in partition gpu: ") for note in own.notes)
    found, _ = findings(asked(partition="gpu,lnog", gpus_per_node=1), of)
    assert ("cluster.partition", "gpu, long") in found


def test_preemption_is_told_with_what_it_costs() -> None:
    def note(mode: str, *nodes: str) -> str:
        _, own = findings(asked(), facts(*nodes, mode=mode))
        return "\n".join(text for text in own.notes if "preempted" in text)

    told = note("CANCEL", node("g1"))
    assert "by those in long, with no time to save" in told
    assert "does not come back by itself" in told
    assert "come back" not in note("REQUEUE", node("g1"))
    assert note("OFF", node("g1")) == ""
    # One of a higher tier on other nodes takes nothing away.
    assert note("CANCEL", node("g1", partitions="gpu"), node("g2", partitions="long")) == ""


def test_a_chain_is_no_longer_than_arrays_may_be() -> None:
    own = report()
    check_chain(own, asked(continue_by="chain", max_attempts=1001), facts(node("g1")))
    check_chain(own, asked(continue_by="requeue", max_attempts=5000), facts(node("g1")))
    assert not own.wrong
    check_chain(own, asked(continue_by="chain", max_attempts=1002), facts(node("g1")))
    assert own.wrong[0].path == "cluster.max_attempts"


# ---- accounts

ROWS = [
    "lab|big|lab||normal,long|normal",
    "lab|big|grant|long|normal|normal",
    "lab|other|secret||normal|normal",
]


@pytest.mark.parametrize(
    ("rows", "changes", "wanted"),
    [
        (ROWS, {"account": "lab", "qos": "long"}, None),
        (ROWS, {}, None),
        (ROWS, {"account": "secret"}, ("cluster.account", "grant, lab")),
        (ROWS, {"account": "lbb"}, ("cluster.account", "grant, lab")),
        (ROWS, {"account": "grant"}, ("cluster.account", "lab")),
        (ROWS, {"account": "grant", "partition": "long"}, None),
        (ROWS, {"account": "grant", "partition": "long", "qos": "long"}, ("cluster.qos", "normal")),
        ([], {}, ("cluster.account", None)),
        (["|big|lab||normal|normal"], {}, ("cluster.account", "lab")),
        (["lab|big|lab|||"], {"qos": "any"}, None),
    ],
)
def test_accounts(
    rows: list[str], changes: dict[str, object], wanted: tuple[str, str] | None
) -> None:
    own, of, request = report(), facts(node("g1")), asked(**changes)
    parts, _ = check_partitions(own, request, of)
    answer = [row.split("|") for row in rows]
    check_account(own, request, of, parts, answer, lambda: "not asked")
    found = [(problem.path, problem.allowed) for problem in own.wrong]
    assert found == ([] if wanted is None else [wanted])


def test_a_qos_that_goes_with_another_account_is_told_so() -> None:
    own, of = report(), facts(node("g1"))
    request = asked(account="grant", qos="long", partition="long")
    parts, _ = check_partitions(own, request, of)
    check_account(own, request, of, parts, [r.split("|") for r in ROWS], lambda: "not asked")
    assert own.wrong[0].action == "write one of these, or use account lab"


# ---- sbatch --test-only


def refused(text: str, waits: bool = False, before: str | None = None) -> Report:
    own = report()
    if before is not None:
        own.add(before, "found by another check")
    check_test_only(own, subprocess.CompletedProcess(["sbatch"], 1, "", text), Fit(True, waits))
    return own


REFUSALS = {
    "Invalid account or account/partition combination specified": "cluster.account",
    "Invalid qos specification": "cluster.qos",
    "Invalid partition name specified": "cluster.partition",
    "No partition specified or system default partition": "cluster.partition",
    "User's group not permitted to use this partition": "cluster.partition",
    "Required partition not available (inactive or drain)": "cluster.partition",
    "Invalid feature specification": "cluster.constraint",
    "Requested time limit is invalid (missing or exceeds some limit)": "cluster.time",
    "Invalid job array specification": "cluster.max_attempts",
    "Requested node configuration is not available": "cluster",
}
ERRORS = {
    "sbatch: error: Invalid generic resource (gres) specification": "cluster.gpus_per_node",
    "sbatch: unrecognized option '--odd=3'\nTry \"sbatch --help\" for more": "cluster.sbatch.odd",
    "Invalid time: xx\nsbatch: error: Invalid --begin specification": "cluster.sbatch.begin",
    "sbatch: error: Invalid --time specification": "cluster.time",
    "sbatch: error: You must name a project\nallocation failure: Unspecified error": None,
}


@pytest.mark.parametrize(
    ("text", "path"),
    [(f"allocation failure: {text}", path) for text, path in REFUSALS.items()]
    + list(ERRORS.items()),
)
def test_refusals_are_told_for_the_field_that_they_are_about(text: str, path: str | None) -> None:
    (problem,) = refused(text).wrong
    assert problem.path == path
    assert problem.action
    # What was found before is not told again.
    if path is not None:
        assert len(refused(text, before=path if path != "cluster" else "cluster.nodes").wrong) == 1


def test_a_message_of_the_site_is_kept_whole() -> None:
    (problem,) = refused(
        "sbatch: error: You must name a project\nallocation failure: Unspecified error"
    ).wrong
    assert problem.got == "'You must name a project'"


def test_nodes_that_are_down_are_no_refusal() -> None:
    text = "allocation failure: Requested node configuration is not available"
    own = refused(text, waits=True)
    assert not own.wrong
    assert "nodes for it are down" in own.notes[0]


# ---- the run directory's file system

MOUNTINFO = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24683656k
40 27 0:40 / /homes rw,relatime shared:1 - nfs4 storage:/export/home rw,vers=4.2
41 27 0:41 / /scratch rw,relatime shared:2 master:3 - lustre 10.0.0.1@o2ib:/scratch rw
42 27 0:42 / /with\\040space rw - fuse.glusterfs vol rw
43 27 0:43 / /mem rw - ramfs none rw
44 40 0:44 / /homes rw - autofs map rw
45 40 0:45 / /homes rw - nfs storage2:/home rw
not a line of it
"""


@pytest.mark.parametrize(
    ("path", "kind", "wanted"),
    [
        ("/scratch/a/b", "lustre", "shared"),
        ("/scratchy", "ext4", "unknown"),
        ("/homes/a/b", "nfs", "shared"),
        ("/with space/x", "fuse.glusterfs", "shared"),
        ("/mem/x", "ramfs", "local"),
        ("/dev/shm/x", "tmpfs", "local"),
        ("/tmp/x", "ext4", "local"),
        ("/data", "ext4", "unknown"),
    ],
)
def test_file_systems(path: str, kind: str, wanted: str) -> None:
    mount = mount_of(Path(path), read_mounts(MOUNTINFO))
    assert mount is not None
    assert (mount.kind, verdict(Path(path), mount)) == (kind, wanted)


def told(path: str, mount: Mount | None, hosts: set[str]) -> Report:
    own = report()
    judge(own, Path(path), Path(path), mount, hosts, "login1.cluster.example")
    return own


def test_a_place_of_this_machine_is_refused_only_if_others_shall_see_it() -> None:
    memory = Mount("/dev/shm", "tmpfs", "tmpfs")
    own = told("/dev/shm/runs", memory, {"g1", "g2"})
    assert str(own.wrong[0]) == (
        "the run directory is on this machine alone, the job's nodes do not see it, got "
        "'/dev/shm/runs' (tmpfs at /dev/shm), allowed: a folder on a file system that all nodes "
        "share; next: choose another place with --run-dir or --runs-root"
    )
    assert not told("/dev/shm/runs", memory, {"login1"}).wrong
    disk = told("/data/runs", Mount("/", "ext4", "/dev/vda"), {"g1"})
    assert not disk.wrong
    assert "cannot be told from here" in disk.notes[0]
    shared = told("/s/runs", Mount("/s", "lustre", "x"), {"g1"})
    assert not shared.wrong
    assert not shared.notes
    assert "unknown kind" in told("/data", None, {"g1"}).notes[0]
    assert socket.gethostname()


# ---- the result


def test_one_error_holds_all_and_its_class_says_what_is_to_be_done() -> None:
    spec, storage = SpecError(Problem("a")), StorageError(Problem("b"))
    with pytest.raises(SpecError) as caught:
        Preflight((spec, storage), (), 0.1).raise_if_bad()
    assert [problem.what for problem in caught.value.problems] == ["a", "b"]
    with pytest.raises(StorageError):
        Preflight((storage,), (), 0.1).raise_if_bad()
    with pytest.raises(EnvironmentNotAble):
        Preflight((EnvironmentNotAble("c"),), (), 0.1).raise_if_bad()
    Preflight((), ("note",), 0.1).raise_if_bad()


def test_files_of_jobs_grow_with_ranks_and_with_a_chain() -> None:
    one = files_of_the_jobs(Request("t", max_attempts=5))
    assert files_of_the_jobs(Request("t", max_attempts=5, nodes=4)) == one + 9
    chain = files_of_the_jobs(Request("t", max_attempts=5, continue_by="chain"))
    assert chain == one + 12
