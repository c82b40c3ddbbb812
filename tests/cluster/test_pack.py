"""``slurm/pack.sbatch`` on a real SLURM: the jobs of an array pack one set together."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from harness.data.packed import open_packed
from harness.data.packed_verify import verify
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.templates_helpers import TEMPLATES, TRAINED_S


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with 4 MB of examples and env.sh."""
    for name in ("a", "b"):
        (tmp_path / "my pictures" / name).mkdir(parents=True)
        for number in range(10):
            path = tmp_path / "my pictures" / name / f"{number}.png"
            path.write_bytes(os.urandom(200_000))
    (tmp_path / "env.sh").write_text(f"export PATH='{Path(sys.executable).parent}':$PATH\n")
    monkeypatch.setenv("HARNESS_ENV", str(tmp_path / "env.sh"))
    return tmp_path


def ended(cluster: SlurmCluster, work: Path, job: str, log: str) -> tuple[str, str]:
    state = cluster.wait_until_ended(job, timeout_s=TRAINED_S)
    return state, (work / log).read_text()


def test_the_jobs_of_an_array_pack_one_set(cluster: SlurmCluster, work: Path) -> None:
    options = ("--array=1-2", "--cpus-per-task=1", "--mem=500M", "--partition=low")
    job = sbatch_with(cluster, work, *options, "pack", "my pictures", "packed", "--shard-mb=1")
    logs = []
    for part in (1, 2):
        state, log = ended(cluster, work, f"{job}_{part}", f"pack-{job}_{part}.out")
        assert state == "COMPLETED", log
        logs.append(log)
    index = open_packed(work / "packed")
    assert len(index) == 20
    assert len(index.shards) > 2
    assert not list(verify(index))
    # One of them found all there; both did at once where they ended in the same moment.
    assert any(index.digest in log for log in logs), logs


def test_what_is_missing_is_said(cluster: SlurmCluster, work: Path) -> None:
    cases = [
        (("--array=1",), ("pack", "my pictures"), "SRC and DST are needed"),
        (("--array=1",), ("pack", "--resize=9", "x"), "SRC and DST are needed"),
        (("--array=0",), ("pack", "my pictures", "packed"), "K/N with 1 <= K <= N"),
        (("--array=1",), ("pack", "nowhere", "packed"), "does not exist"),
    ]
    small = ("--cpus-per-task=1", "--mem=500M", "--partition=low")
    jobs = [
        sbatch_with(cluster, work, *option, *small, *arguments) for option, arguments, _ in cases
    ]
    for job, (option, _, words) in zip(jobs, cases, strict=True):
        part = option[0].rpartition("=")[2]
        state, log = ended(cluster, work, f"{job}_{part}", f"pack-{job}_{part}.out")
        assert state == "FAILED"
        assert words in log
    assert not (work / "packed").exists()


def sbatch_with(cluster: SlurmCluster, work: Path, *words: str) -> str:
    """Submits with options of sbatch before the name of the template."""
    at = words.index("pack")
    template = str(TEMPLATES / "pack.sbatch")
    return cluster.submit(*words[:at], template, *words[at + 1 :], cwd=work)
