"""A run that goes on at another site, with that one's values, on a real SLURM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.runs.jobs import read_jobs
from tests.cluster.configuration import ACCOUNT, OTHER_ACCOUNT, QOS
from tests.cluster.harness_cli import Harness
from tests.cluster.slurm_cluster import SlurmCluster
from tests.local.training_helpers import write_spec

HOLD = "cluster.sbatch.hold=true"


def test_the_values_of_the_new_site_reach_the_scheduler(
    cluster: SlurmCluster,
    tmp_path: Path,
    write_pictures: Callable[..., Path],
    tiny_backbone: Path,
) -> None:
    write_pictures(tmp_path / "data" / "train", ["blue", "red"], 4)
    spec = write_spec(tmp_path, tiny_backbone, tmp_path / "data", **{"data.test": None})
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(f"name: old\ncluster: {{partition: low, account: {ACCOUNT}, qos: {QOS}}}\n")
    new.write_text("name: new\ncluster: {partition: high, sbatch: {comment: of-new}}\n")
    harness = Harness(cluster, tmp_path)
    paths, job = harness.submit(str(spec), "--site", str(old), "-o", HOLD)
    facts = cluster.job(job)
    assert (facts["Partition"], facts["QOS"]) == ("low", QOS)
    cluster.run("scancel", job)
    _, err = harness.said("resume", str(paths.root), "--site", str(new))
    assert f"cluster.partition: low of site {old} was dropped, now high (site {new})" in err
    assert f"cluster.account: {ACCOUNT} of site {old} was dropped, now null (default)" in err
    assert "kept, as the run's own: " in err
    assert "cluster.sbatch.hold=true" in err
    again = read_jobs(paths)[-1]
    facts = cluster.job(again.id)
    assert (facts["Partition"], facts["QOS"], facts["Comment"]) == ("high", "normal", "of-new")
    assert again.site == "new"
    cluster.run("scancel", again.id)
    # What is written in the spec by now is the new site's; a profile that is gone is asked about.
    new.unlink()
    _, err = harness.said("resume", str(paths.root), "--site", str(old), code=2)
    assert f"the profile of site {new}" in err
    assert "-o cluster.partition=high" in err
    wanted = ["-o", "cluster.partition=high", "-o", "cluster.sbatch={hold: true}"]
    wanted += ["-o", f"cluster.account={OTHER_ACCOUNT}", "-o", "cluster.device=cpu"]
    _, err = harness.said("resume", str(paths.root), "--site", str(old), *wanted, code=2)
    assert "this account is not one of yours" in err, "-o wins over the site"
