"""Runs in a container: the image is really built, and a job's ranks really run inside of it.

Charliecloud runs it; see ``docs/containers.md`` for what of the other runtimes was not run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import harness as package
from harness.runs.attempts import read_attempts
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from tests.cluster.harness_cli import Harness, wait_for_step, wait_until_finished
from tests.cluster.slurm_cluster import SlurmCluster
from tests.container_image import SECRETS, Image
from tests.local.training_helpers import curve, mischief

HOROVOD = {"cluster.strategy": "horovod", "cluster.ranks_per_node": 2}


def said(paths: RunPaths, job: str) -> str:
    return paths.job_log(job, 0, "err").read_text()


def listing(root: Path) -> str:
    """A digest of the names, sizes and times of all files."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            facts = os.lstat(Path(folder, name))
            digest.update(f"{folder}/{name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def test_the_image_holds_what_it_should_and_nothing_of_a_user(image: Image) -> None:
    labels = image.podman("inspect", "--format", "{{json .Labels}}", image.name)
    assert f'"org.opencontainers.image.version":"{package.__version__}"' in labels
    history = image.podman("history", "--no-trunc", "--format", "{{.CreatedBy}}", image.name)
    assert "secret" not in history
    names = {Path(name).name for name in SECRETS if "secret" in name}
    # Python's standard library has a module of that name.
    found = [
        Path(folder, name)
        for folder, folders, files in os.walk(image.root)
        for name in [*folders, *files]
        if name in names | {".git", ".env"}
    ]
    assert not found
    for emptied in ("context", "root/.cache", "root/.config"):
        assert not (image.root / emptied).exists()
    assert not any((image.root / "tmp").iterdir())
    packages = (image.root / "usr/local/share/harness/packages.txt").read_text()
    for name in ("tensorflow==", "tf_keras==", "horovod", "harness", "libopenmpi-dev:"):
        assert f"\n{name}" in packages


def test_two_horovod_ranks_train_inside_are_stopped_and_go_on(
    cluster: SlurmCluster,
    tmp_path: Path,
    spec: Callable[..., str],
    image: Image,
) -> None:
    before = listing(image.root)
    harness = Harness(cluster, tmp_path)
    slow = mischief(tmp_path, sleep_s=1.0)
    changes = {**slow, **HOROVOD, "cluster.container": str(image.root)}
    paths, job = harness.submit(spec(**changes))
    wait_for_step(paths, 2)
    cluster.run("scancel", "--batch", "--signal=USR2", job)
    wait_until_finished(paths)
    assert [one.outcome for one in read_attempts(paths)] == ["stopped", "finished"]
    assert curve(paths.root), "there are metrics"
    record = read_record(paths)
    packages = (image.root / "usr/local/share/harness/packages.txt").read_bytes()
    assert record["container"] == {
        "image": str(image.root),
        "runtime": "charliecloud",
        "digest": f"sha256:{hashlib.sha256(packages).hexdigest()}",
        "digest_of": "list of packages",
        "version": package.__version__,
    }
    assert record["distribution"]["name"] == "horovod"
    assert "with charliecloud" in said(paths, job)
    assert listing(image.root) == before, "the image is read only"


def test_an_image_without_harness_ends_the_job_at_once_and_says_so(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str], image: Image
) -> None:
    bare = image.podman("image", "mount", "harness-base").strip()
    harness = Harness(cluster, tmp_path)
    paths, job = harness.submit(spec(**{"cluster.container": bare}))
    cluster.wait_until_ended(job)
    assert cluster.job(job)["ExitCode"] == "3:0"
    assert f"cluster.container: 'python3' in {bare} cannot import harness" in said(paths, job)


def test_a_folder_that_the_image_cannot_show_is_named(
    cluster: SlurmCluster, tmp_path: Path, spec: Callable[..., str], image: Image
) -> None:
    harness = Harness(cluster, tmp_path)
    container = {"image": str(image.root), "binds": ["/usr/lib/python3/nowhere"]}
    paths, job = harness.submit(spec(**{"cluster.container": container}))
    cluster.wait_until_ended(job)
    assert cluster.job(job)["ExitCode"] == "3:0"
    assert "cluster.container.binds: '/usr/lib/python3/nowhere' is not there" in said(paths, job)
