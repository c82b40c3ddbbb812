"""The templates of slurm/, by plain sbatch on a real SLURM, from a folder of their user's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.cluster.on import on
from tests.cluster.processes import wait_until
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.templates_helpers import (
    TEMPLATES,
    TRAINED_S,
    assert_guarded,
    ends,
    fetch,
    named_in_processes,
    outcomes,
    sbatch,
    stand_in,
    wait_until_it_trains,
)
from tests.local.training_helpers import CLASSES, assert_same_result, lines, mischief, write_spec

ON_CPU = ("-o", "cluster.device=cpu")
"""The cluster's GPUs are none, so what asks for one has to be told."""


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_backbone: Path,
    write_pictures: Callable[..., Path],
) -> Path:
    """A user's folder: quick.yaml, slow.yaml of the same training with pauses, and env.sh."""
    folder = tmp_path_factory.mktemp("user's work")
    write_pictures(folder / "data" / "train", CLASSES, 8, 16)
    write_pictures(folder / "data" / "test", CLASSES, 3, 16)
    for name, sleep_s in (("quick", 0.0), ("slow", 0.7)):
        changes = mischief(folder, sleep_s=sleep_s)
        file = write_spec(folder, tiny_backbone, folder / "data", name=name, **changes)
        file.rename(folder / f"{name}.yaml")
    (folder / "env.sh").write_text(f"export PATH='{Path(sys.executable).parent}':$PATH\n")
    return folder


@pytest.fixture(autouse=True)
def _environment(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_ENV", str(work / "env.sh"))


class Undisturbed(NamedTuple):
    """Jobs that trained quick.yaml, and were left alone."""

    run: Path
    """What single_gpu.sbatch made."""
    array: str
    """The number of the array of array.sbatch."""


@pytest.fixture(scope="module")
def undisturbed(running_cluster: SlurmCluster, work: Path) -> Undisturbed:
    """Trained at once, since most of their time is TensorFlow's start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_ENV", str(work / "env.sh"))
        single = sbatch(running_cluster, work, "single_gpu", "quick.yaml", *ON_CPU)
        array = sbatch(running_cluster, work, "array", "quick.yaml", *ON_CPU)
    ends(running_cluster, work, single, "COMPLETED", "single_gpu")
    for seed in (1, 2):
        ends(running_cluster, work, f"{array}_{seed}", "COMPLETED", "array")
    return Undisturbed(work / "runs" / "quick" / f"job-{single}", array)


def test_a_preempted_training_ends_as_one_that_was_left_alone(
    cluster: SlurmCluster, work: Path, undisturbed: Undisturbed
) -> None:
    job = sbatch(cluster, work, "cpu", "slow.yaml")
    run = work / "runs" / "slow" / f"job-{job}"
    wait_until_it_trains(cluster, job, run)
    node = cluster.job(job)["NodeList"]
    high = cluster.submit("--partition=high", f"--nodelist={node}", "--exclusive", "--wrap=true")
    cluster.wait_for_state(high, "COMPLETED", timeout_s=90)
    log = ends(cluster, work, job, "COMPLETED", "cpu")
    assert f"harness: job {job} is back in the queue" in log
    assert cluster.job(job)["Restarts"] == "1"
    assert outcomes(run) == ["stopped", "finished"]
    assert (run / "FINISHED").exists()
    assert (undisturbed.run / "FINISHED").exists()
    assert_same_result(run, undisturbed.run)


def test_an_array_makes_a_run_of_each_seed(work: Path, undisturbed: Undisturbed) -> None:
    folder = work / "runs" / "quick"
    runs = [folder / f"job-{undisturbed.array}_{seed}" for seed in (1, 2)]
    for seed, run in enumerate(runs, 1):
        assert (run / "FINISHED").exists()
        assert yaml.safe_load((run / "spec.yaml").read_text())["training"]["seed"] == seed
    first, second = ((run / "metrics.jsonl").read_text() for run in runs)
    assert first != second


@on("requeue_refused")
def test_where_requeues_are_refused_the_log_says_how_to_go_on(
    cluster: SlurmCluster, work: Path
) -> None:
    folder = work / "its own"  # this cluster counts its jobs from 1, as the other does
    folder.mkdir()
    job = sbatch(cluster, folder, "cpu", "../slow.yaml", "-o", "about.licence=it's $HOME")
    run = folder / "runs" / "slow" / f"job-{job}"
    wait_until_it_trains(cluster, job, run)
    cluster.run("scancel", "--signal=USR2", "--batch", job)
    log = ends(cluster, folder, job, "FAILED", "cpu")
    assert cluster.job(job)["ExitCode"] == "75:0"
    assert "does not go on by itself" in log and "presently disabled" in log
    assert outcomes(run) == ["stopped"]
    pasted = re.search(r"^harness: +(cd .* sbatch .*)$", log, re.MULTILINE)
    assert pasted is not None, log
    said = cluster.run("bash", "-c", pasted[1], cwd=Path("/")).stdout
    ends(cluster, folder, said.split()[-1], "COMPLETED", "cpu")
    assert outcomes(run) == ["stopped", "finished"]
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_what_cannot_be_ends_with_the_code_that_says_so(
    cluster: SlurmCluster, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Usage errors, no GPU for TensorFlow, no harness; all at once, each with its own code."""
    cases = [
        ("cpu", (), "2:0", "no SPEC given"),
        ("cpu", ("nowhere.yaml",), "2:0", "nowhere.yaml"),
        ("array", ("quick.yaml", "--run-dir=x"), "2:0", "HARNESS_RUN_DIR=DIR"),
        ("tensorboard", ("nowhere",), "2:0", "no such folder"),
        ("single_gpu", ("quick.yaml",), "3:0", "TensorFlow sees no GPU"),
    ]
    jobs = [(sbatch(cluster, work, case[0], *case[1]), *case) for case in cases]
    monkeypatch.setenv("HARNESS_ENV", str(work / "no env.sh"))
    unreadable = sbatch(cluster, work, "cpu", "quick.yaml")
    jobs.append((unreadable, "cpu", (), "3:0", "HARNESS_ENV names a file that cannot be read"))
    monkeypatch.setenv("HARNESS_ENV", "")
    jobs.append(
        (sbatch(cluster, work, "cpu", "quick.yaml"), "cpu", (), "3:0", "no command harness")
    )
    for job, template, _, code, words in jobs:
        tasks = ("_1", "_2") if template == "array" else ("",)
        for task in tasks:
            log = ends(cluster, work, job + task, "FAILED", template)
            assert words in log
            assert cluster.job(job + task)["ExitCode"] == code


def test_nothing_odd_reaches_the_training_and_a_signal_finds_it_in_any_state(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitted from inside an interactive job; signalled before the training listens."""
    stand_in(tmp_path / "bin", "", monkeypatch)
    left = {"MEM_PER_CPU": "700", "NTASKS": "4", "CPU_BIND": "map_cpu:7", "TRES_PER_TASK": "gpu:9"}
    left |= {"GPUS": "2", "STEP_NUM_TASKS": "4", "PROCID": "3", "ARRAY_JOB_ID": "1", "NNODES": "7"}
    submitted = subprocess.run(
        ["sbatch", "--parsable", TEMPLATES / "single_gpu.sbatch", "a b.yaml", "-o", "x='$(id)' ;*"],
        env=cluster.environment(**{f"SLURM_{name}": value for name, value in left.items()}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    job = submitted.stdout.strip()
    log = tmp_path / f"single_gpu-{job}.out"
    cluster.wait_for_text(log, "ready")
    cluster.run("scancel", "--signal=USR2", "--batch", job)
    text = ends(cluster, tmp_path, job, "COMPLETED", "single_gpu")
    run_dir = tmp_path / "runs" / "a b" / f"job-{job}"
    wanted = ["run", "a b.yaml", "--run-dir", str(run_dir), "-o", "cluster.device=gpu", "-o"]
    assert re.findall("^argument <(.*)>$", text, re.MULTILINE) == [*wanted, "x='$(id)' ;*"] * 2
    assert text.count("cpus 4 of one of 1, gpus 0") == 2
    assert cluster.job(job)["Restarts"] == "1"


def test_a_cancelled_job_does_not_come_back(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "bin", "trap 'echo saved; exit 75' TERM USR2", monkeypatch)
    job = sbatch(cluster, tmp_path, "cpu", "spec.yaml")
    cluster.wait_for_text(tmp_path / f"cpu-{job}.out", "ready")
    cluster.run("scancel", job)
    text = ends(cluster, tmp_path, job, "CANCELLED", "cpu")
    wait_until(cluster.is_idle, "the job is gone", 60)
    text = (tmp_path / f"cpu-{job}.out").read_text()
    assert "does not go on by itself: SLURM says COMPLETING" in text
    assert cluster.job(job)["JobState"] == "CANCELLED"
    assert cluster.job(job)["Restarts"] == "0"


def test_tensorboard_serves_a_run_to_its_owner_alone_and_leaves_nothing(
    cluster: SlurmCluster, work: Path, undisturbed: Undisturbed
) -> None:
    job = sbatch(cluster, work, "tensorboard", os.path.relpath(undisturbed.run, work))
    log = work / f"tensorboard-{job}.out"
    cluster.wait_for_text(log, f"scancel {job}", timeout_s=TRAINED_S)
    pasted = re.search(r"^ +ssh -N -L 6006:(\S+) -J \S+@\S+ \S+@\S+$", log.read_text(), re.M)
    assert pasted is not None, log.read_text()
    path = pasted[1]
    assert_guarded(Path(path))
    wait_until(lambda: "epoch_loss" in fetch(path, "tags").get("train", ()), "points there", 120)
    points = fetch(path, "scalars?run=train&tag=epoch_loss")
    losses = [
        line["loss"]
        for line in lines(undisturbed.run / "metrics.jsonl")
        if line["split"] == "train" and line.get("epoch_end")
    ]
    assert [value for _, _, value in points] == pytest.approx(losses, rel=1e-5)
    assert named_in_processes(path)
    cluster.run("scancel", job)
    cluster.wait_until_ended(job)
    wait_until(cluster.is_idle, "the job is gone", 60)
    assert not Path(path).parent.exists()
    assert not named_in_processes(path)
