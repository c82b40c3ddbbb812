"""``harness pack --slurm`` and ``harness inspect --slurm`` on a real SLURM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.data.packed import open_packed
from harness.data.packed_verify import verify
from tests.cluster.harness_cli import Harness
from tests.cluster.processes import wait_until
from tests.cluster.slurm_cluster import SlurmCluster
from tests.cluster.templates_helpers import TRAINED_S

SMALL = ("-o", "cluster.partition=low", "-o", "cluster.mem_gb=1", "-o", "cluster.cpus_per_rank=1")


@pytest.fixture
def harness(cluster: SlurmCluster, tmp_path: Path) -> Harness:
    return Harness(cluster, tmp_path)


def random_files(folder: Path, each: int, size: int) -> Path:
    """Two classes of files of random bytes, which are packed as they are."""
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            (folder / name / f"{number}.png").write_bytes(os.urandom(size))
    return folder


def log_of(path: str) -> str:
    """Both streams of a job, which may have printed nothing yet."""
    files = [Path(path), Path(path).with_suffix(".err")]
    return "".join(file.read_text() for file in files if file.exists())


def test_parts_pack_one_set_and_the_same_command_completes_it(
    cluster: SlurmCluster, harness: Harness, tmp_path: Path
) -> None:
    random_files(tmp_path / "my pictures", 10, 200_000)
    command = ("pack", "my pictures", "packed set", "--shard-mb", "1", "--slurm", *SMALL)
    done = harness.json(*command, "--jobs", "2")
    assert done["tasks"] == 2
    assert Path(done["script"]).exists()
    assert f"squeue -j {done['job_id']}" in done["next"]
    states = [
        cluster.wait_until_ended(f"{done['job_id']}_{part}", timeout_s=TRAINED_S) for part in (1, 2)
    ]
    logs = [log_of(log) for log in done["logs"]]
    assert states == ["COMPLETED", "COMPLETED"], logs
    index = open_packed(tmp_path / "packed set")
    assert len(index) == 20
    assert len(index.shards) > 2
    assert not list(verify(index))
    assert any(index.digest in log for log in logs), logs
    # A purge takes a file; the same command, now as one job, makes it again.
    (index.root / index.shards[1].file).unlink()
    said, err = harness.said(*command)
    job = said.split()[1]
    assert "preflight took" in err
    assert cluster.wait_until_ended(job, timeout_s=TRAINED_S) == "COMPLETED"
    assert not list(verify(open_packed(index.root)))
    assert harness.json("list") == [], "a job of a verb is no run"


def test_one_that_is_asked_to_stop_goes_on_where_it_was(
    cluster: SlurmCluster, harness: Harness, tmp_path: Path
) -> None:
    random_files(tmp_path / "many", 200, 1_000_000)
    done = harness.json("pack", "many", "packed", "--shard-mb", "4", "--slurm", *SMALL)
    job, folder = done["job_id"], tmp_path / "packed"
    wait_until(lambda: list(folder.glob("data-*")), "a first file", TRAINED_S)
    cluster.run("scancel", "--batch", "--signal=USR2", job)
    log = done["logs"][0]
    cluster.wait_for_text(Path(log).with_suffix(".err"), "start 2", TRAINED_S)
    before = {path.name: path.stat().st_ino for path in folder.glob("data-*")}
    assert cluster.wait_until_ended(job, timeout_s=TRAINED_S) == "COMPLETED", log_of(log)
    said = log_of(log)
    assert "SIGUSR2: the ranks are asked to save and stop" in said
    assert "it was stopped; the job is requeued" in said
    assert "Traceback" not in said
    index = open_packed(folder)
    assert not list(verify(index))
    after = {path.name: path.stat().st_ino for path in folder.glob("data-*")}
    assert len(before) > 0
    assert before.items() <= after.items(), "what was there is not written again"


def test_data_are_inspected_in_a_job_whose_code_is_that_of_the_verb(
    cluster: SlurmCluster, harness: Harness, tmp_path: Path, write_pictures
) -> None:
    write_pictures(tmp_path / "good", ["blue", "red"], 6)
    random_files(tmp_path / "broken", 3, 1000)
    jobs = [
        harness.json("inspect", name, "--all", "--slurm", *SMALL) for name in ("good", "broken")
    ]
    states = [cluster.wait_until_ended(job["job_id"], timeout_s=TRAINED_S) for job in jobs]
    logs = [log_of(job["logs"][0]) for job in jobs]
    assert states == ["COMPLETED", "FAILED"], logs
    assert "12 examples of 2 classes" in logs[0]
    assert "decoded    12 of 12" in logs[0]
    assert "broken     6" in logs[1]
    assert "nothing is tried again" in logs[1]
    cluster.wait_for_accounting(jobs[1]["job_id"], "FAILED|4:0", "State", "ExitCode")


def test_what_cannot_run_is_refused_before_anything_is_queued(
    cluster: SlurmCluster, harness: Harness, tmp_path: Path
) -> None:
    random_files(tmp_path / "few", 1, 100)
    pack = ("pack", "few", "packed", "--slurm")
    _, err = harness.said(*pack, "-o", "cluster.partition=nosuch", code=2)
    assert "cluster.partition: there is no such partition" in err
    _, err = harness.said("pack", "nowhere", "packed", "--slurm", code=4)
    assert "nowhere does not exist" in err
    assert not (tmp_path / "runs").exists()
    held = harness.json(*pack, *SMALL, "-o", "cluster.sbatch.hold=true")
    _, err = harness.said(*pack, *SMALL, code=2)
    assert f"a job that does the same is pending already, got job {held['job_id']}" in err
    cluster.run("scancel", held["job_id"])
    wait_until(lambda: cluster.job(held["job_id"]).get("JobState") == "CANCELLED", "it ends", 30)
    again = harness.json(*pack, *SMALL, "--no-preflight")
    assert cluster.wait_until_ended(again["job_id"], timeout_s=TRAINED_S) == "COMPLETED"
