"""Templates of slurm/: several devices and processes, and signals that come while srun starts."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.templates_helpers import TEMPLATES, ends, outcomes, wait_until_it_trains
from tests.horovod_here import need_horovod
from tests.local.training_helpers import CLASSES, assert_equal_losses, mischief, write_spec

ON_NODE = ("--gres=gpu:2", "--cpus-per-task=2", "--mem=3G")
"""The test cluster's nodes are smaller than those that the template is for."""


def sbatch(cluster: SlurmCluster, work: Path, *arguments: str) -> str:
    """Submits ``arguments``, of which the one that ends with .sbatch is a template's name."""
    found = (str(TEMPLATES / one) if one.endswith(".sbatch") else one for one in arguments)
    return cluster.submit(*found, cwd=work)


@pytest.fixture
def work(
    tmp_path: Path,
    tiny_backbone: Path,
    write_pictures: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A user's folder with spec.yaml and env.sh."""
    write_pictures(tmp_path / "data" / "train", CLASSES, 8, 16)
    write_pictures(tmp_path / "data" / "test", CLASSES, 3, 16)
    write_spec(tmp_path, tiny_backbone, tmp_path / "data")
    (tmp_path / "env.sh").write_text(f"export PATH='{Path(sys.executable).parent}':$PATH\n")
    monkeypatch.setenv("HARNESS_ENV", str(tmp_path / "env.sh"))
    return tmp_path


def test_all_devices_of_a_node_train_in_one_process_and_fewer_are_an_error(
    cluster: SlurmCluster, work: Path
) -> None:
    """The cluster's GPUs are none for TensorFlow: CPUs stand for them, or the job says so."""
    two = ("-o", "cluster.device=cpu", "-o", "cluster.replicas_per_rank=2")
    any_device = ("-o", "cluster.device=auto")
    cases = [
        (ON_NODE, (), "3:0", "TensorFlow sees no GPU"),
        (ON_NODE, any_device, "3:0", "there are fewer GPUs than cluster.gpus_per_node asks for"),
        ((*ON_NODE, "--gres=none"), (), "2:0", 'put the line "#SBATCH --gres=gpu:4" back'),
    ]
    trained = sbatch(cluster, work, *ON_NODE, "multi_gpu.sbatch", "spec.yaml", *two)
    refused = [
        sbatch(cluster, work, *options, "multi_gpu.sbatch", "spec.yaml", *arguments)
        for options, arguments, _, _ in cases
    ]
    for job, (_, _, code, words) in zip(refused, cases, strict=True):
        assert words in ends(cluster, work, job, "FAILED", "multi_gpu")
        assert cluster.job(job)["ExitCode"] == code
    assert "got 0 of 2" in (work / f"multi_gpu-{refused[1]}.out").read_text()
    ends(cluster, work, trained, "COMPLETED", "multi_gpu")
    run = work / "runs" / "spec" / f"job-{trained}"
    assert (run / "FINISHED").exists()
    distribution = json.loads((run / "run.json").read_text())["distribution"]
    assert distribution["name"] == "mirrored"
    assert "2 of 2 CPUs" in distribution["why"]


ON_TWO_NODES = ("--nodes=2", "--gres=gpu:1", "--ntasks-per-node=1", "--cpus-per-task=1", "--mem=3G")


def test_processes_on_two_nodes_train_alike_are_stopped_and_go_on(
    cluster: SlurmCluster, work: Path
) -> None:
    """CPUs stand for the cluster's GPUs again."""
    need_horovod()
    on_cpu = ("-o", "cluster.device=cpu")
    multiworker = ("-o", "cluster.strategy=multiworker")
    slow = mischief(work, sleep_s=0.7)
    backbone = Path(yaml.safe_load((work / "spec.yaml").read_text())["backbone"]["handle"][4:])
    write_spec(work, backbone, work / "data", **slow)
    crowded = (*ON_TWO_NODES, "--gres=gpu:2", "--cpus-per-task=2", "--mem=100M")
    for options, arguments, words in (
        (crowded, on_cpu, "next: sbatch --ntasks-per-node=2 ..."),
        ((*ON_TWO_NODES, "--gres=none"), (), "#SBATCH --gres=gpu:4"),
    ):
        job = sbatch(cluster, work, *options, "multi_node.sbatch", "spec.yaml", *arguments)
        assert words in ends(cluster, work, job, "FAILED", "multi_node")
        assert cluster.job(job)["ExitCode"] == "2:0"
    refused = sbatch(cluster, work, *ON_TWO_NODES, "--mem=1G", "horovod.sbatch", "spec.yaml")
    stopped = sbatch(cluster, work, *ON_TWO_NODES, "horovod.sbatch", "spec.yaml", *on_cpu)
    left_alone = sbatch(
        cluster, work, *ON_TWO_NODES, "multi_node.sbatch", "spec.yaml", *on_cpu, *multiworker
    )
    runs = {job: work / "runs" / "spec" / f"job-{job}" for job in (stopped, left_alone)}
    wait_until_it_trains(cluster, stopped, runs[stopped])
    cluster.run("scancel", "--signal=USR2", "--batch", stopped)
    assert "TensorFlow sees no GPU" in ends(cluster, work, refused, "FAILED", "horovod")
    assert cluster.job(refused)["ExitCode"] == "3:0"
    ends(cluster, work, left_alone, "COMPLETED", "multi_node")
    assert "is back in the queue" in ends(cluster, work, stopped, "COMPLETED", "horovod")
    assert outcomes(runs[stopped]) == ["stopped", "finished"]
    assert outcomes(runs[left_alone]) == ["finished"]
    names = [json.loads((run / "run.json").read_text())["distribution"] for run in runs.values()]
    assert [one["name"] for one in names] == ["horovod", "multiworker"]
    assert_equal_losses(runs[stopped], runs[left_alone])


# Stands where harness would be.  It stops as harness does, and its next start has nothing to do.
STAND_IN = """#!/bin/bash
trap 'echo heard; exit 75' USR2
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then exit 0; fi
while true; do sleep 0.2; done
"""

# Stands before srun and signals the batch script, as SLURM does, just when srun starts.
SRUN = """#!/bin/bash
script=$PPID
case ${SLURM_RESTART_COUNT:-0}-$WHEN in
    0-lost) # for certain: nobody passes on what comes before srun is there
        trap 'lost=yes' USR2
        kill -USR2 "$script"
        until [ -n "$lost" ]; do sleep 0.1; done
        trap - USR2
        ;;
    0-pending) # another step has all CPUs of the job; srun waits, and catches USR2 (bit 11)
        @SRUN@ --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \\
            bash -c "touch 'held-$SLURM_JOB_ID'; sleep 1000" &
        until [ -e "held-$SLURM_JOB_ID" ]; do sleep 0.1; done
        (
            until grep -q '^SigCgt:.*[89a-f]..$' "/proc/$$/status"; do sleep 0.1; done
            kill -USR2 "$script"
        ) &
        ;;
    0-*) (sleep "$WHEN" && kill -USR2 "$script") & ;;
esac
exec @SRUN@ "$@"
"""


def test_a_signal_that_comes_while_srun_starts_is_not_lost(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """srun forwards nothing in its first milliseconds, and gives up a step that is pending."""
    real = shutil.which("srun", path=cluster.environment()["PATH"])
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, text in (("harness", STAND_IN), ("srun", SRUN.replace("@SRUN@", str(real)))):
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    (tmp_path / "env.sh").write_text(f"export PATH='{bin_folder}':$PATH\n")
    monkeypatch.setenv("HARNESS_ENV", str(tmp_path / "env.sh"))
    jobs = {}
    for when in ("lost", "pending", "0", "0.01", "0.03"):
        monkeypatch.setenv("WHEN", when)
        small = ("--cpus-per-task=1", "--mem=100M")
        jobs[when] = sbatch(cluster, tmp_path, *small, "cpu.sbatch", "spec.yaml")
    logs = {when: ends(cluster, tmp_path, job, "COMPLETED", "cpu") for when, job in jobs.items()}
    for when, log in logs.items():
        assert f"harness: job {jobs[when]} is back in the queue" in log
        assert cluster.job(jobs[when])["Restarts"] == "1"
    assert "heard" in logs["lost"]
    assert "heard" not in logs["pending"]
