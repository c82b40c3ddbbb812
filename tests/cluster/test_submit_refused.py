"""Submissions that cannot be, or not twice: told clearly, and nothing is left half-done."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.runs.jobs import read_jobs
from harness.runs.paths import RunPaths
from tests.cluster.conftest import require_packages
from tests.cluster.harness_cli import HARNESS, Harness, wait_for_step, wait_until_finished
from tests.cluster.slurm_cluster import SlurmCluster
from tests.local.training_helpers import mischief


def test_two_submissions_of_one_run_at_once(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    harness = Harness(cluster, tmp_path)
    words = ["submit", spec(), "--run-dir", str(tmp_path / "run"), "--no-preflight"]
    hold = ["-o", "cluster.sbatch={hold: true}"]
    # At the same moment from the very beginning, also when neither has made the folder yet.
    started = [harness.start(*words, *hold) for _ in range(3)]
    said = [process.communicate(timeout=120) for process in started]
    codes = sorted(process.returncode for process in started)
    assert codes == [0, 2, 2], said
    assert len(cluster.run("squeue", "-h").stdout.split("\n")[:-1]) == 1
    assert len(read_jobs(RunPaths(tmp_path / "run"))) == 1
    _, err = harness.said(*words, code=2)
    assert "a job of this run is pending already" in err


def test_a_queued_run_keeps_its_spec_when_it_is_submitted_again(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    """The job in the queue has as many nodes as it was submitted with, and reads the spec later."""
    harness = Harness(cluster, tmp_path)
    hold = ["-o", "cluster.sbatch={hold: true}", "-o", "cluster.strategy=auto"]
    paths, _ = harness.submit(spec(), *hold, "-o", "cluster.nodes=2")
    before = paths.spec.read_text()
    for words in (["submit", spec()], ["resume", str(paths.root), "-o", "cluster.nodes=1"]):
        _, err = harness.said(*words, code=2)
        assert "a job of this run is pending already" in err
    assert paths.spec.read_text() == before


def test_a_spec_that_is_being_trained_is_not_trained_twice_by_mistake(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    harness = Harness(cluster, tmp_path)
    slow = spec(**mischief(tmp_path, sleep_s=1.0))
    paths, job = harness.submit(slow)
    wait_for_step(paths, 1)
    _, err = harness.said("submit", slow, "--no-preflight", code=2)
    assert "this spec is being trained in this run already" in err
    assert f"harness cancel {paths.root}" in err
    again, _ = harness.submit(slow, "--new", "-o", "cluster.sbatch={hold: true}")
    assert again.root != paths.root
    cluster.run("scancel", job)


def test_a_refused_job_leaves_nothing(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    harness = Harness(cluster, tmp_path)
    words = ["submit", spec(), "--no-preflight", "-o", "cluster.partition=nonsense"]
    _, err = harness.said(*words, code=2)
    assert "SLURM refused the job; nothing was submitted, got" in err
    assert "invalid partition" in err.lower()
    assert not list((tmp_path / "runs").rglob("run.json"))
    # With the preflight it is said by the field, and nothing is made in the first place.
    _, err = harness.said(*[word for word in words if word != "--no-preflight"], code=2)
    assert "cluster.partition" in err
    assert not list((tmp_path / "runs").rglob("run.json"))
    # So is what no cluster could train.
    _, err = harness.said("submit", spec(), "-o", "cluster.gpus_per_node=3", code=3)
    assert "3 replicas cannot share the 8 lanes" in err
    # And a run that was there stays what it was.
    paths, job = harness.submit(spec(), "-o", "cluster.sbatch={hold: true}")
    cluster.run("scancel", job)
    paths.failed.write_text("it had failed before")
    again = ["resume", str(paths.root), "--no-preflight", "-o", "cluster.partition=nonsense"]
    harness.said(*again, code=2)
    assert paths.failed.read_text() == "it had failed before"
    assert len(read_jobs(paths)) == 1


def test_what_was_there_before_stays_when_a_job_is_refused(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    harness = Harness(cluster, tmp_path)
    words = ["--no-preflight", "-o", "cluster.partition=nonsense", "--run-dir", str(folder)]
    harness.said("submit", spec(), *words, code=2)
    assert folder.is_dir(), "it was the user's, empty as it was"
    # The spec in the folder of the run itself would be written over.
    own = Path(spec()).rename(folder / "spec.yaml")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "mine.py").write_text("# mine\n")
    shutil.rmtree(folder / "slurm", ignore_errors=True)
    (folder / "run.json").unlink()
    before = own.read_bytes()
    _, err = harness.said("submit", str(own), *words, code=2)
    assert "holds the spec itself" in err
    assert own.read_bytes() == before
    assert (folder / "plugins" / "mine.py").exists()


SLOW_SBATCH = """#!/bin/bash
{sbatch} "$@" >/dev/null
echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2
exit 1
"""


def test_a_job_that_was_taken_although_sbatch_heard_no_answer(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    """The real sbatch submits it; what is changed is only that its answer gets lost."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sbatch").write_text(SLOW_SBATCH.format(sbatch=shutil.which("sbatch")))
    (tools / "sbatch").chmod(0o755)
    harness = Harness(cluster, tmp_path, PATH=f"{tools}:{cluster.environment()['PATH']}")
    _, err = harness.said("submit", spec(), "--no-preflight", code=3)
    assert "squeue --me" in err
    (paths,) = (RunPaths(path) for path in (tmp_path / "runs" / "tiny").iterdir())
    wait_until_finished(paths)
    (job,) = read_jobs(paths)
    assert cluster.wait_until_ended(job.id) == "COMPLETED"


def test_a_run_that_is_trained_elsewhere_is_not_submitted(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    harness = Harness(cluster, tmp_path)
    paths, job = harness.submit(spec(), "-o", "cluster.sbatch={hold: true}")
    cluster.run("scancel", job)
    holding = "import sys, time; from harness.runs.lock import RunLock; "
    holding += "from harness.runs.paths import RunPaths\n"
    holding += "with RunLock(RunPaths(sys.argv[1])):\n print('held', flush=True); time.sleep(99)"
    other = subprocess.Popen(
        [sys.executable, "-c", holding, str(paths.root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        _, err = harness.said("resume", str(paths.root), "--no-preflight", code=2)
        assert "another process trains this run" in err
    finally:
        other.kill()
        other.communicate()


def test_a_run_directory_that_is_gone(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    harness = Harness(cluster, tmp_path)
    paths, job = harness.submit(spec(), "-o", "cluster.sbatch={hold: true}")
    shutil.rmtree(paths.root)
    cluster.run("scontrol", "release", job)
    assert cluster.wait_until_ended(job) == "FAILED", "it does not come again and again"
    _, err = harness.said("status", str(paths.root), code=2)
    assert "no run is named so" in err


def test_without_slurm_the_way_out_is_told(tmp_path: Path, spec: Callable[..., str]) -> None:
    done = subprocess.run(
        [HARNESS, "submit", spec()],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "there is no SLURM on this machine" in done.stderr
    assert "--site local" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_controller_that_is_down(tmp_path: Path, spec: Callable[..., str]) -> None:
    require_packages()
    folder = Path(tempfile.mkdtemp(prefix="harness-cluster-"))
    try:
        with SlurmCluster(folder / "c", "no_accounting") as cluster:
            harness = Harness(cluster, tmp_path)
            paths, _ = harness.submit(spec(), "-o", "cluster.sbatch={hold: true}")
            next(one for one in cluster.daemons if one.name == "slurmctld").stop(20)
            for more in ([], ["--no-preflight"]):
                _, err = harness.said("submit", spec(), "--new", *more, code=3)
                assert "SLURM does not answer" in err
            assert [path.parent for path in (tmp_path / "runs").rglob("run.json")] == [paths.root]
    finally:
        shutil.rmtree(folder)
