"""The cluster as a fixture: started once for each configuration, one after the other."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.packages import INSTALL, missing_packages
from tests.cluster.slurm_cluster import SlurmCluster


def require_packages() -> None:
    """Skips when SLURM is not installed; in continuous integration that is a failure."""
    missing = missing_packages()
    if not missing:
        return
    text = f"no SLURM to test with (missing: {' '.join(missing)}); next: {INSTALL}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="session", params=["default"])
def running_cluster(request: pytest.FixtureRequest) -> Iterator[SlurmCluster]:
    """A running cluster; pytest brings those tests together that want the same configuration."""
    require_packages()
    parent = Path(tempfile.mkdtemp(prefix="harness-cluster-"))
    try:
        with SlurmCluster(parent / "c", request.param) as cluster:
            yield cluster
    finally:
        shutil.rmtree(parent)


@pytest.fixture
def cluster(running_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """The running cluster, with no jobs; those that a test leaves are ended after it.

    ``@on("no_requeue")`` or ``@on("default", "no_accounting")`` above a test or as a module's
    ``pytestmark`` chooses other configurations than the default one.
    """
    yield running_cluster
    running_cluster.clear()
