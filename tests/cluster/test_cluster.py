"""The test cluster is a SLURM: jobs, GPUs, accounting, preemption, requeues, time limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster.configuration import (
    ACCOUNT,
    CONFIGURATIONS,
    GPUS_PER_NODE,
    NODES,
    OTHER_ACCOUNT,
    OTHER_QOS,
    QOS,
)
from tests.cluster.on import on
from tests.cluster.processes import ClusterError
from tests.cluster.slurm_cluster import SlurmCluster

# Both the batch shell and the task that srun starts say which signals came, and go on.
STUBBORN = r"""#!/bin/bash
trap 'echo "shell USR2"' USR2
trap 'echo "shell TERM"' TERM
echo "start ${SLURM_RESTART_COUNT:-0}"
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then exit 0; fi
srun --ntasks=1 bash -c '
    trap "echo task USR2" USR2
    trap "echo task TERM" TERM
    while true; do sleep 0.3; done' &
while [ -n "$(jobs -r)" ]; do wait -n; done
"""

# What a well-behaved job does: at the signal it asks for its own requeue and waits for the end.
WILLING = r"""#!/bin/bash
trap 'echo "shell USR2"; scontrol requeue "$SLURM_JOB_ID"; sleep 60' USR2
echo "start ${SLURM_RESTART_COUNT:-0}"
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then exit 0; fi
for _ in $(seq 300); do sleep 0.2; done
"""


def start_low_job(cluster: SlurmCluster, folder: Path, script: str, *options: str) -> str:
    """A running job in the low partition whose log is ``folder/JOB.out``."""
    path = folder / "low.sh"
    path.write_text(script)
    wanted = ["--partition=low", "--nodes=1", "--open-mode=append", f"--output={folder}/%j.out"]
    job = cluster.submit(*wanted, *options, str(path))
    cluster.wait_for_state(job, "RUNNING")
    cluster.wait_for_text(folder / f"{job}.out", "start 0")
    return job


def preempt(cluster: SlurmCluster, where: str = "--nodes=3") -> str:
    """A short job in the high partition that needs these nodes for itself."""
    return cluster.submit("--partition=high", where, "--exclusive", "--wrap=true")


def words(log: Path) -> list[str]:
    """The lines that the jobs above write, without what SLURM writes between them."""
    return re.findall(r"^(?:start|shell|task) \w+$", log.read_text(), re.MULTILINE)


def test_a_job_runs_on_two_nodes_and_accounting_shows_it(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    command = "srun bash -c 'echo $SLURMD_NODENAME $SLURM_PROCID'"
    job = cluster.submit("--nodes=2", f"--output={tmp_path}/out", f"--wrap={command}")
    cluster.wait_for_state(job, "COMPLETED")
    lines = (tmp_path / "out").read_text().splitlines()
    assert sorted(line.split()[1] for line in lines) == ["0", "1"]
    assert len({line.split()[0] for line in lines} & set(NODES)) == 2
    cluster.wait_for_accounting(job, f"COMPLETED|{ACCOUNT}|2", "state", "account", "nnodes")


def test_jobs_on_one_node_get_different_gpus(cluster: SlurmCluster, tmp_path: Path) -> None:
    wanted = ["--nodelist=n1", "--gres=gpu:2", f"--output={tmp_path}/%j"]
    jobs = [cluster.submit(*wanted, "--wrap=echo $CUDA_VISIBLE_DEVICES; sleep 2") for _ in range(2)]
    for job in jobs:
        cluster.wait_for_state(job, "COMPLETED")
    given = [set((tmp_path / job).read_text().strip().split(",")) for job in jobs]
    assert set.union(*given) == {str(number) for number in range(GPUS_PER_NODE)}
    assert not set.intersection(*given)
    with pytest.raises(ClusterError, match="configuration is not available"):
        cluster.submit(f"--gres=gpu:{GPUS_PER_NODE + 1}", "--wrap=true")


def test_accounts_and_qos_are_enforced(cluster: SlurmCluster) -> None:
    for option in (f"--account={OTHER_ACCOUNT}", "--account=nonsense"):
        with pytest.raises(ClusterError, match="Invalid account"):
            cluster.submit(option, "--wrap=true")
    with pytest.raises(ClusterError, match="Invalid qos"):
        cluster.submit(f"--qos={OTHER_QOS}", "--wrap=true")
    cluster.wait_for_state(cluster.submit(f"--qos={QOS}", "--wrap=true"), "COMPLETED")


def check_time_limit(cluster: SlurmCluster, job: str, log: Path) -> None:
    """The job got the signal before its time limit and left with a code of its own."""
    assert cluster.wait_until_ended(job, timeout_s=90) == "FAILED"
    assert cluster.job(job)["ExitCode"] == "7:0"
    assert words(log) == ["shell USR2"]


def check_stubborn(cluster: SlurmCluster, job: str, log: list[str]) -> None:
    """The user's signal came alone, SIGTERM at the end of the grace time, to all."""
    assert log[:2] == ["start 0", "task USR2"]
    assert set(log[2:-1]) == {"task TERM", "shell TERM"}
    assert log[-1] == "start 1"
    cluster.wait_for_accounting(job, "PREEMPTED COMPLETED", "state")


def test_signals_at_preemption_and_before_the_time_limit(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    # All in one test, because each job waits for SLURM, which looks at limits every 30 s; so a
    # signal 59 s before the end of a minute comes in its first half.
    script = "trap 'echo shell USR2; exit 7' USR2; for _ in $(seq 300); do sleep 0.2; done"
    options = ["--time=1", "--signal=B:USR2@59", f"--output={tmp_path}/limit"]
    limited = cluster.submit("--partition=high", "--nodelist=n3", *options, f"--wrap={script}")
    stubborn = start_low_job(cluster, tmp_path, STUBBORN, "--nodelist=n1", "--signal=USR2@5")
    willing = start_low_job(cluster, tmp_path, WILLING, "--nodelist=n2", "--signal=B:USR2@5")
    high = preempt(cluster, "--nodelist=n1,n2")
    check_time_limit(cluster, limited, tmp_path / "limit")
    cluster.wait_for_state(high, "COMPLETED", timeout_s=90)
    for job in (willing, stubborn):
        cluster.wait_for_state(job, "COMPLETED", timeout_s=90)
        assert cluster.job(job)["Restarts"] == "1"
    check_stubborn(cluster, stubborn, words(tmp_path / f"{stubborn}.out"))
    assert words(tmp_path / f"{willing}.out") == ["start 0", "shell USR2", "start 1"]
    cluster.wait_for_accounting(willing, "REQUEUED COMPLETED", "state")


@on("no_user_signal")
def test_without_user_signal_only_sigterm_comes(cluster: SlurmCluster, tmp_path: Path) -> None:
    script = STUBBORN.replace('"echo task TERM"', '"echo task TERM; exit 0"')
    job = start_low_job(cluster, tmp_path, script, "--signal=USR2@5")
    cluster.wait_for_state(preempt(cluster), "COMPLETED", timeout_s=90)
    assert words(tmp_path / f"{job}.out") == ["start 0", "task TERM"]
    # It left by itself within its grace time, and so nothing requeues it.
    assert cluster.wait_until_ended(job) == "COMPLETED"
    assert cluster.job(job)["Restarts"] == "0"


@on("no_requeue")
def test_without_requeue_a_preempted_job_is_over_unless_it_asked(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    silent = start_low_job(cluster, tmp_path, STUBBORN, "--signal=USR2@5")
    asking = start_low_job(cluster, tmp_path, WILLING, "--signal=B:USR2@5", "--requeue")
    refused = cluster.run("scontrol", "requeue", silent, check=False)
    assert "presently disabled" in refused.stderr
    cluster.wait_for_state(preempt(cluster), "COMPLETED", timeout_s=90)
    assert cluster.wait_until_ended(silent) == "PREEMPTED"
    assert "start 1" not in words(tmp_path / f"{silent}.out")
    cluster.wait_for_state(asking, "COMPLETED")
    assert words(tmp_path / f"{asking}.out")[-1] == "start 1"


@on("requeue_refused")
def test_a_site_may_refuse_requeues_even_to_those_who_ask(cluster: SlurmCluster) -> None:
    job = cluster.submit("--requeue", "--wrap=sleep 60")
    cluster.wait_for_state(job, "RUNNING")
    assert cluster.job(job)["Requeue"] == "0"
    refused = cluster.run("scontrol", "requeue", job, check=False)
    assert "presently disabled" in refused.stderr


@on("no_accounting")
def test_without_accounting_sacct_says_so_and_jobs_run(cluster: SlurmCluster) -> None:
    job = cluster.submit("--wrap=true")
    cluster.wait_for_state(job, "COMPLETED")
    asked = cluster.run("sacct", "-j", job, check=False)
    assert asked.returncode == 1
    assert "accounting storage is disabled" in asked.stderr


@on(*CONFIGURATIONS)
def test_every_configuration_is_what_it_says(cluster: SlurmCluster) -> None:
    asked = cluster.run("scontrol", "show", "config").stdout
    configuration = cluster.configuration
    assert ("preempt_send_user_signal" in asked) is configuration.user_signal
    assert f"JobRequeue              = {int(configuration.requeue)}\n" in asked
    assert ("accounting_storage/slurmdbd" in asked) is configuration.accounting
    grace = cluster.run("scontrol", "show", "partition", "low").stdout
    assert f"GraceTime={configuration.grace_s} " in grace
