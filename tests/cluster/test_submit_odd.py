"""Submissions in odd surroundings, and those that cannot be: whole, or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.attempts import read_attempts
from harness.runs.jobs import read_jobs
from harness.runs.paths import RunPaths
from tests.cluster.conftest import require_packages
from tests.cluster.harness_cli import HARNESS, Harness, wait_until_finished
from tests.cluster.slurm_cluster import SlurmCluster
from tests.local.training_helpers import write_spec
from tests.wheels import build_wheelhouse

SECRET = "xoxb-not-a-real-token-17"
ODD = 'it\'s $(touch canary) `touch canary`; "touch canary" & é'
INHERITED = {
    "SBATCH_PARTITION": "nonsense",
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_ACCOUNT": "nonsense",
    "SLURM_JOB_ID": "99999",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_MEM_PER_NODE": "1",
    "TF_CONFIG": "{}",
    "SQUEUE_FORMAT": "%i",
}


@pytest.fixture
def spec(
    tmp_path: Path, write_pictures: Callable[..., Path], tiny_backbone: Path
) -> Callable[..., str]:
    """Writes a spec that is trained within seconds."""
    write_pictures(tmp_path / "data" / "train", ["blue", "green", "red"], 8)
    write_pictures(tmp_path / "data" / "test", ["blue", "green", "red"], 4)

    def write(folder: Path = tmp_path, **changes: Any) -> str:
        more = {"cluster.partition": "low", "cluster.cpus_per_rank": 1, **changes}
        return str(write_spec(folder, tiny_backbone, tmp_path / "data", **more))

    return write


def holding(folder: Path, text: str) -> list[str]:
    """Files under a folder that hold a text, in whatever form."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in found if text.encode() in path.read_bytes()]


def test_an_odd_place_odd_variables_and_an_open_umask(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    """From a folder with a hostile name, in a shell that is itself inside of a job."""
    place = tmp_path / ODD
    place.mkdir()
    harness = Harness(cluster, place, SECRET_TOKEN=SECRET, **INHERITED)
    words = [spec(place), "-o", f"cluster.sbatch.comment={ODD}"]
    umask = os.umask(0)
    try:
        out, err = harness.said("submit", *words)
    finally:
        os.umask(umask)
    assert "not let through" in err
    assert "SBATCH_PARTITION" in err
    job = next(line.split()[1] for line in out.splitlines() if line.startswith("job "))
    shown = cluster.run("scontrol", "show", "job", job).stdout
    assert f"Comment={ODD}" in shown
    assert cluster.job(job)["Partition"] == "low"
    assert cluster.job(job)["TimeLimit"] == "00:10:00"
    paths = RunPaths(next((place / "runs" / "tiny").iterdir()))
    wait_until_finished(paths)
    assert cluster.wait_until_ended(job) == "COMPLETED"
    assert not list(tmp_path.rglob("canary"))
    assert not holding(paths.root, SECRET)
    open_to_others = [path for path in paths.root.rglob("*") if path.stat().st_mode & 0o077]
    assert not open_to_others
    (attempt,) = read_attempts(paths)
    assert (attempt.job, attempt.outcome) == (job, "finished")


def test_prepared_here_and_submitted_by_hand(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    """As from within a container that has no sbatch; the line is pasted into another shell."""
    bare = tmp_path / "bin"
    bare.mkdir()
    harness = Harness(cluster, tmp_path, PATH=str(bare), SBATCH_PARTITION="nonsense")
    line = harness.call("submit", spec(), "--prepare").strip()
    assert line.startswith("env -u SBATCH_PARTITION sbatch /")
    (paths,) = (RunPaths(path) for path in (tmp_path / "runs" / "tiny").iterdir())
    assert read_jobs(paths) == []
    done = cluster.run("bash", "-c", f"export SBATCH_PARTITION=nonsense; {line}")
    job = done.stdout.split()[-1]
    wait_until_finished(paths)
    assert [one.id for one in read_jobs(paths)] == [job]
    usual = Harness(cluster, tmp_path)
    assert usual.status(paths)["state"] == "finished"
    assert "is finished" in usual.call("submit", spec(), "--run-dir", str(paths.root))


def test_from_inside_of_an_interactive_job(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    """A shell that srun started has the variables of that job: one task, little time and memory."""
    harness = Harness(cluster, tmp_path)
    settings = [f"{name}={text}" for name, text in harness.variables.items()]
    words = ["env", *settings, HARNESS, "submit", spec(), "-o", "cluster.sbatch={hold: true}"]
    inner = ["srun", "--partition=high", "--time=5", "--mem=2000", "--cpus-per-task=2", *words]
    out = cluster.run(*inner, timeout_s=120, cwd=tmp_path).stdout
    job = next(line.split()[1] for line in out.splitlines() if line.startswith("job "))
    facts = cluster.job(job)
    assert (facts["Partition"], facts["NumCPUs"], facts["TimeLimit"]) == ("low", "1", "00:10:00")
    paths = RunPaths(Path(next(line.split()[1] for line in out.splitlines() if "path" in line)))
    assert "SLURM_" not in (paths.slurm / f"{job}_submission.sh").read_text().split("# setup")[0]


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
    _, err = harness.said("submit", spec(), "-o", "cluster.gpus_per_node=3", code=2)
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


def test_a_site_with_modules_and_a_venv_trains(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str]
) -> None:
    """The Python is the one of the site's venv, whatever the shell of the submission has."""
    modulefile = tmp_path / "modulefiles" / "tools" / "1.2"
    modulefile.parent.mkdir(parents=True)
    modulefile.write_text("#%Module1.0\nsetenv TOOLS 1.2\n")
    site = tmp_path / "here.yaml"
    site.write_text(
        "name: here\n"
        "environment:\n"
        "  modules: [tools/1.2]\n"
        f"  venv: {sys.prefix}\n"
        f"  variables: {{MODULEPATH: {modulefile.parents[1]}}}\n"
    )
    harness = Harness(cluster, tmp_path, PYTHONPATH="/nonsense", VIRTUAL_ENV="/nonsense")
    out, err = harness.said("submit", spec(), "--site", str(site), "--wait")
    assert "finished" in err, "it was followed to its end"
    paths = RunPaths(Path(next(line.split()[1] for line in out.splitlines() if "path" in line)))
    assert read_attempts(paths)[-1].outcome == "finished"
    assert read_jobs(paths)[0].site == "here"


def lend(packages: Path, wheels: Path) -> None:
    """Makes the wheel of a package ``lent`` that puts a folder at the end of the search path."""
    info = "lent-1.0.dist-info"
    files = {
        "lent.pth": f"{packages}\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: lent\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(wheels / "lent-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


def test_a_site_that_builds_its_python_trains(
    cluster: SlurmCluster,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    spec: Callable[..., str],
) -> None:
    """harness is installed on the node from a wheelhouse; TensorFlow, too large for a test's
    wheelhouse, is lent by a package that only says where it is."""
    wheels = build_wheelhouse(tmp_path_factory.mktemp("source"), tmp_path / "wheels")
    lend(Path(sysconfig.get_path("purelib")), wheels)
    (tmp_path / "requirements.txt").write_text("harness\nlent\n")
    site = tmp_path / "building.yaml"
    site.write_text(
        "name: building\n"
        "environment:\n"
        f"  build: {{requirements: requirements.txt, wheelhouse: {wheels}}}\n"
    )
    paths, job = Harness(cluster, tmp_path).submit(spec(), "--site", str(site))
    wait_until_finished(paths)
    assert cluster.wait_until_ended(job) == "COMPLETED"
    started = json.loads(paths.attempts.read_text().splitlines()[0])["argv"][0]
    assert "/site-packages/harness/worker/entry.py" in started, "the installed one, not this tree"
    assert sysconfig.get_path("purelib") not in started
    assert not Path(started).exists(), "it was built for this job and is gone with it"


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
