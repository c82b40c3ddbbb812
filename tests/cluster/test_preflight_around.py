"""The checks before a submission: what the site says, and what is missing or down around SLURM."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from harness.errors import EnvironmentNotAble, SpecError, StorageError
from harness.launch.preflight import preflight
from harness.launch.request import make_request
from harness.launch.slurm import Slurm
from harness.spec import load_spec
from tests.cluster.configuration import (
    OTHER_ACCOUNT,
    user_name,
)
from tests.cluster.preflight_helpers import SPEC, Asking
from tests.cluster.processes import free_ports
from tests.cluster.slurm_cluster import SlurmCluster


@pytest.fixture
def ask(cluster: SlurmCluster, tmp_path: Path) -> Asking:
    return Asking(cluster, tmp_path)


def test_values_of_the_site_are_placed_in_the_site(ask: Asking, tmp_path: Path) -> None:
    site = tmp_path / "ours.yaml"
    site.write_text("name: ours\ncluster:\n  partition: gone\n")
    problem = ask.one("nodes: 1", site=site)
    assert (problem.path, problem.line) == ("cluster.partition", 3)
    assert str(problem.file) == str(site)


def test_a_site_whose_nodes_may_not_control_and_whose_scratch_is_emptied(
    ask: Asking, tmp_path: Path
) -> None:
    site = tmp_path / "ours.yaml"
    site.write_text(
        "name: ours\npurge_days: 30\ncompute_may_control: false\n"
        # An outdated profile: the cluster itself is asked, and knows better.
        'partitions: {low: {time_max: "0:05:00"}}\n'
    )
    wanted = ["partition: low", 'time: "0:30:00"']
    problem = ask.one(*wanted, "continue_by: requeue", site=site)
    assert (problem.path, problem.allowed) == ("cluster.continue_by", "chain, none")
    assert (problem.file, problem.line) == ask.place(3)
    found = ask(*wanted, "continue_by: chain", site=site)
    found.raise_if_bad()
    assert any("that nobody has touched for 30 days" in note for note in found.notes)


def quota_script(folder: Path, table: str, code: int = 0) -> Path:
    """A quota command that prints this table, with the path that it is given in it."""
    script = folder / "quota"
    (folder / "table").write_text(table)
    script.write_text(f'#!/bin/sh\nsed "s|PATH|$2|; s|USER|$1|" {folder}/table\nexit {code}\n')
    script.chmod(0o700)
    site = folder / "site.yaml"
    site.write_text(
        f'name: ours\nquota_command: ["{script}", "{{user}}", "{{path}}"]\ncluster: {{}}\n'
    )
    return site


LFS = """\
Disk quotas for usr USER (uid 1000):
     Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
           PATH  %s
"""


def test_the_sites_quota_command(ask: Asking, tmp_path: Path) -> None:
    roomy = quota_script(tmp_path, LFS % "4521340  50000000 55000000       -   81234  1000000 0 -")
    found = ask("partition: low", site=roomy)
    found.raise_if_bad()
    assert any(note.endswith("51.7 GB left, no limit of files") for note in found.notes)
    full = quota_script(tmp_path, LFS % "5000000*  4000000 5000000 6d2h 99990  90000 100000 -", 1)
    found = ask("partition: low", site=full)
    with pytest.raises(StorageError) as caught:
        found.raise_if_bad()
    assert caught.value.exit_code == 5
    texts = [str(problem) for problem in caught.value.problems]
    assert len(texts) == 2
    assert f"your quota of bytes on {tmp_path} leaves too little" in texts[0]
    assert "got 10 left of 100000" in texts[1]
    # With a mistake of the spec beside it, both are told, as the spec's.
    found = ask("partition: nonsense", site=full)
    with pytest.raises(SpecError) as both:
        found.raise_if_bad()
    assert len(both.value.problems) == 3
    for table, code, said in (
        ("Everything is fine, USER!", 0, f"Everything is fine, {user_name()}!"),
        ("", 3, "ended with 3"),
    ):
        found = ask("partition: low", site=quota_script(tmp_path, table, code))
        found.raise_if_bad()
        assert any(said in note for note in found.notes)


def test_a_database_that_is_down_is_told_and_stops_nothing(
    cluster: SlurmCluster, ask: Asking, tmp_path: Path
) -> None:
    # The same cluster, seen through a file that looks for the database where nobody listens.
    (port,) = free_ports(1)
    text = (cluster.folder / "slurm.conf").read_text()
    other = tmp_path / "slurm.conf"
    other.write_text(re.sub(r"(AccountingStoragePort)=\d+", rf"\1={port}", text))
    found = ask(f"account: {OTHER_ACCOUNT}", environment={"SLURM_CONF": str(other)})
    with pytest.raises(SpecError) as caught:
        found.raise_if_bad()
    # sbatch is there to say no.
    assert [problem.path for problem in caught.value.problems] == ["cluster.account"]
    assert "Invalid account" in str(caught.value)
    assert any("could not be looked up" in note for note in found.notes)


def test_a_controller_that_is_down_is_the_only_thing_told(short_path: Path) -> None:
    with SlurmCluster(short_path, "no_accounting") as own:
        ask = Asking(own, short_path.parent)
        ask("partition: low").raise_if_bad()
        (daemon,) = (one for one in own.daemons if one.name == "slurmctld")
        daemon.stop(20)
        found = ask("partition: nonsense", "mem_gb: 99")
        with pytest.raises(EnvironmentNotAble, match=r"SLURM does not answer, got .* is DOWN"):
            found.raise_if_bad()
        assert len(found.errors) == 1
        assert len(found.errors[0].problems) == 1
        assert found.errors[0].exit_code == 3


def test_no_slurm_and_no_sacctmgr(cluster: SlurmCluster, tmp_path: Path) -> None:
    spec = tmp_path / "job.yaml"
    spec.write_text(SPEC + f"  account: {OTHER_ACCOUNT}\n")
    resolved = load_spec(spec)
    request = make_request(resolved)
    tools = tmp_path / "bin"
    tools.mkdir()
    slurm = Slurm(cluster.environment(PATH=str(tools)))
    with pytest.raises(EnvironmentNotAble, match="no SLURM on this machine"):
        preflight(resolved, request, tmp_path, None, slurm).raise_if_bad()
    for name in ("sbatch", "srun", "squeue", "scontrol"):
        found = shutil.which(name, path=cluster.environment()["PATH"])
        assert found is not None
        (tools / name).symlink_to(found)
    found = preflight(resolved, request, tmp_path, None, slurm)
    found.raise_if_bad()
    notes = "\n".join(found.notes)
    assert "sacctmgr is not installed here" in notes
    assert "was not given to `sbatch --test-only`" in notes
