"""Submissions in odd surroundings, by other hands, and in every environment that a site names."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.runs.attempts import read_attempts
from harness.runs.jobs import read_jobs
from harness.runs.paths import RunPaths
from tests.cluster.harness_cli import HARNESS, Harness, wait_until_finished
from tests.cluster.slurm_cluster import SlurmCluster
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
    # Modules of the user's that are named as Python's own, and a checkout beside them.
    (place / "dataclasses.py").write_text("raise ImportError('the wrong one')\n")
    (place / "harness").mkdir()
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
    said = harness.call("status", str(paths.root))
    assert f"prepared, and not submitted yet. Next: `sbatch {paths.prepared_script}`" in said
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
