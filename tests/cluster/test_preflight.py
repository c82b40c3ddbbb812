"""The checks before a submission, against the real cluster: each finding, and a job that fits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SpecError
from tests.cluster.configuration import (
    ACCOUNT,
    CPUS_PER_NODE,
    GPUS_PER_NODE,
    NODES,
    OTHER_ACCOUNT,
    OTHER_QOS,
    QOS,
)
from tests.cluster.on import on
from tests.cluster.preflight_helpers import LINES_BEFORE, Asking, changed
from tests.cluster.slurm_cluster import SlurmCluster


@pytest.fixture
def ask(cluster: SlurmCluster, tmp_path: Path) -> Asking:
    return Asking(cluster, tmp_path)


@on("default", "no_accounting")
def test_a_job_that_fits_has_no_errors_and_notes_what_will_hold(
    cluster: SlurmCluster, ask: Asking
) -> None:
    wanted = ["partition: low", "gpus_per_node: 1", "cpus_per_rank: 2", "mem_gb: 2"]
    found = ask(*wanted, 'time: "0:30:00"')
    found.raise_if_bad()
    assert found.errors == ()
    notes = "\n".join(found.notes)
    assert "3 of the 3 nodes of partition low can carry the job" in notes
    assert "are preempted by those in high, with 15 s to save" in notes
    assert re.search(r"SLURM estimates a start at 20\S+ on n\d in partition low", notes)
    assert "names no quota_command" in notes
    assert (f"your default account {ACCOUNT} is charged" in notes) is (
        cluster.configuration.accounting
    )
    assert cluster.run("squeue", "-h").stdout == "", "nothing may be queued"
    assert not ask.run_dir.exists()
    ask("partition: low,high").raise_if_bad()
    # All that is not named takes the cluster's defaults, and they are told.
    found = ask()
    found.raise_if_bad()
    notes = "\n".join(found.notes)
    assert "jobs go to low, the default" in notes
    assert "partition low gives every attempt 0:10:00" in notes


@pytest.mark.parametrize("named", ["hihg", "nonsense"])
def test_an_unknown_partition(ask: Asking, named: str) -> None:
    problem = ask.one("nodes: 1", f"partition: {named}")
    assert (problem.file, problem.line) == ask.place(2)
    assert problem.path == "cluster.partition"
    assert problem.what == "there is no such partition"
    assert problem.allowed == "low, high"
    assert problem.action == ("write high" if named == "hihg" else "name one of these")
    start = f"{ask.file}:{LINES_BEFORE + 2}: cluster.partition: there is no such partition, "
    assert str(problem).startswith(f"{start}got '{named}', allowed: low, high; next: ")


def test_a_partition_that_is_not_open_and_a_cluster_without_a_default(
    cluster: SlurmCluster, ask: Asking
) -> None:
    for state in ("DOWN", "DRAIN", "INACTIVE"):
        with changed(cluster, "partitionname=high", f"state={state.lower()}", "state=up"):
            problem = ask.one("partition: high")
            assert problem.path == "cluster.partition"
            assert problem.got == f"high in state {state}"
            assert problem.allowed == "low"
            # A list with one that is open is enough.
            found = ask("partition: high,low")
            if state == "DOWN":  # of the others SLURM itself refuses the whole list
                found.raise_if_bad()
                assert any(state in note for note in found.notes)
    with changed(cluster, "partitionname=low", "default=no", "default=yes"):
        problem = ask.one("nodes: 1")
        assert problem.path == "cluster.partition"
        assert "no default partition" in problem.what
        assert problem.allowed == "low, high"


def test_accounts_and_qos_that_are_not_the_users(ask: Asking) -> None:
    for account in (OTHER_ACCOUNT, "nonsense"):
        problem = ask.one("nodes: 1", "", f"account: {account}")
        assert (problem.file, problem.line) == ask.place(3)
        assert problem.path == "cluster.account"
        assert problem.what == "this account is not one of yours"
        assert problem.got == f"'{account}'"
        assert ACCOUNT in str(problem.allowed)
    problem = ask.one(f"account: {ACCOUNT}", f"qos: {OTHER_QOS}")
    assert (problem.path, problem.allowed) == ("cluster.qos", f"normal, {QOS}")
    assert (problem.file, problem.line) == ask.place(2)
    # Account names are kept in small letters; SLURM takes large ones.
    ask(f"account: {ACCOUNT.upper()}", f"qos: {QOS}").raise_if_bad()


def test_partitions_that_let_in_some_only(cluster: SlurmCluster, ask: Asking) -> None:
    # Here SLURM itself says yes, and never starts the job.
    high = "partitionname=high"
    with changed(cluster, high, f"allowaccounts={OTHER_ACCOUNT}", "allowaccounts=ALL"):
        problem = ask.one("partition: high")
        assert (problem.path, problem.allowed) == ("cluster.account", OTHER_ACCOUNT)
        assert problem.got == f"'{ACCOUNT}', your default"
        assert ask("partition: high,low").errors == ()
    with changed(cluster, high, "allowaccounts=root", "allowaccounts=ALL"):
        found = ask("partition: high")
        assert found.errors == ()
        assert any(f"to which {ACCOUNT} belongs" in note for note in found.notes)
    with changed(cluster, high, f"denyaccounts={ACCOUNT}", "denyaccounts="):
        problem = ask.one("partition: high", f"account: {ACCOUNT}")
        assert (problem.path, problem.got) == ("cluster.account", f"'{ACCOUNT}'")
        assert (problem.file, problem.line) == ask.place(2)
    with changed(cluster, high, f"allowqos={QOS}", "allowqos=ALL"):
        assert ask.one("partition: high").path == "cluster.qos"
        ask("partition: high", f"qos: {QOS}").raise_if_bad()


@on("no_accounting")
def test_without_accounting_an_account_does_no_harm(ask: Asking) -> None:
    found = ask("account: teaching", "qos: urgent")
    found.raise_if_bad()
    assert any("keeps no accounts" in note for note in found.notes)


@pytest.mark.parametrize(
    ("line", "changes", "path", "got", "allowed"),
    [
        (None, {"gpus_per_node": GPUS_PER_NODE + 1}, "gpus_per_node", "5", "up to 4"),
        ("cpus_per_rank: 9", {}, "cpus_per_rank", "9", f"up to {CPUS_PER_NODE}"),
        ("mem_gb: 9", {}, "mem_gb", "9 GB", "up to 7 GB"),
        (None, {"nodes": len(NODES) + 1}, "nodes", "4", "up to 3"),
        (None, {"ranks_per_node": 3}, "cpus_per_rank", "12", f"up to {CPUS_PER_NODE}"),
        ("constraint: nonsense", {}, "constraint", "'nonsense'", "null: the nodes here have no"),
        ("gpu_type: a100", {"gpus_per_node": 1}, "gpu_type", "'a100'", "null: the GPUs here have"),
        (None, {"gpus_per_node": 1, "gres": "card"}, "gpus_per_node", "1 of 'card'", "GRES gpu"),
    ],
)
def test_what_no_node_has(
    ask: Asking, line: str | None, changes: dict[str, Any], path: str, got: str, allowed: str
) -> None:
    problem = ask.one("partition: low", *([line] if line else []), **changes)
    assert (problem.path, problem.got) == (f"cluster.{path}", got)
    assert str(problem.allowed).startswith(allowed)
    assert (problem.file, problem.line) == (ask.place(2) if line else (None, None))


def test_times(cluster: SlurmCluster, ask: Asking) -> None:
    problem = ask.one("partition: high", "cpus_per_rank: 1", 'time: "3:00:00"')
    assert (problem.path, problem.got) == ("cluster.time", "3:00:00")
    assert problem.allowed == "up to 2:00:00"
    assert (problem.file, problem.line) == ask.place(3)
    ask("partition: high", 'time: "2:00:00"').raise_if_bad()
    with changed(cluster, "partitionname=high", "defaulttime=2", "defaulttime=10"):
        problem = ask.one("partition: high")
        assert problem.path == "cluster.time"
        assert "nothing is left before the signal" in problem.what


def test_several_mistakes_are_all_reported_in_the_order_of_the_file(ask: Asking) -> None:
    lines = [
        "mem_gb: 99",
        "partition: high",
        f"account: {OTHER_ACCOUNT}",
        f"qos: {OTHER_QOS}",
        'time: "3:00:00"',
        "constraint: nonsense",
        "cpus_per_rank: 12",
        "sbatch: {nonsense: 3}",
    ]
    found = ask(*lines)
    with pytest.raises(SpecError) as caught:
        found.raise_if_bad()
    names = ["mem_gb", "partition", "account", "qos", "time", "constraint", "cpus_per_rank"]
    wanted = [(name, n) for n, name in enumerate(names, 1) if name != "partition"]
    problems = caught.value.problems
    assert [(p.path, p.line) for p in problems] == [
        *((f"cluster.{name}", LINES_BEFORE + n) for name, n in wanted),
        ("cluster.sbatch.nonsense", LINES_BEFORE + len(lines)),
    ]
    assert all(p.file == str(ask.file) and p.action for p in problems)


def test_what_only_sbatch_knows(ask: Asking) -> None:
    problem = ask.one("sbatch: {mail-type: SOMETIMES}")
    assert problem.path == "cluster.sbatch.mail-type"
    assert problem.got == "'Invalid --mail-type specification'"
    problem = ask.one("sbatch: {reservation: nobodys}")
    assert problem.path == "cluster.sbatch.reservation"
    problem = ask.one("sbatch: {tmp: 100G}")
    assert (problem.path, problem.got) == (
        "cluster",
        "'Requested node configuration is not available'",
    )
    problem = ask.one("continue_by: chain", "max_attempts: 5000")
    assert (problem.path, problem.allowed) == ("cluster.max_attempts", "up to 1001")


def test_nodes_that_are_down_only_make_a_job_wait(cluster: SlurmCluster, ask: Asking) -> None:
    with changed(cluster, "nodename=n1", "state=drain", "state=resume", "reason=test"):
        found = ask("partition: high", nodes=3)
        found.raise_if_bad()
        notes = "\n".join(found.notes)
        assert "3 of the 3 nodes of partition high can carry the job, 2 of them are in" in notes
        assert "the job will wait until they are back" in notes
        ask("partition: high", nodes=2).raise_if_bad()


def test_features_are_those_of_the_nodes(cluster: SlurmCluster, ask: Asking) -> None:
    def give(features: str) -> None:
        # Emptied first, since the active ones must be among those available.
        cluster.run("scontrol", "update", "nodename=n1", "activefeatures=")
        cluster.run("scontrol", "update", "nodename=n1", f"availablefeatures={features}")
        cluster.run("scontrol", "update", "nodename=n1", f"activefeatures={features}")

    give("ib,v100")
    try:
        ask("constraint: ib&v100").raise_if_bad()
        problem = ask.one("constraint: ib&a100")
        assert (problem.path, problem.allowed) == ("cluster.constraint", "ib, v100")
        problem = ask.one("constraint: ib", nodes=2)
        assert (problem.path, problem.allowed) == ("cluster.nodes", "up to 1")
        found = ask(constraint="[ib|v100]")
        found.raise_if_bad()
        assert any("for SLURM to say" in note for note in found.notes)
    finally:
        give("")
