"""A run's saved spec at another site: whose values hold then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from spec_helpers import changed, write

from harness.errors import SpecError, UsageError
from harness.spec import Resolved, dump_spec, load_spec
from harness.spec.other_site import load_at_site

OLD = """\
name: old
cluster:
  partition: low
  qos: long
  gpu_type: v100
  sbatch: {licenses: lustre, comment: of old}
"""
NEW = """\
name: new
cluster:
  partition: booster
  constraint: gpu
  max_attempts: 50
  sbatch: {hint: nomultithread}
"""


class Place:
    """Two site files and a user's config; a run's spec that was saved at the old one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.old = write(folder, OLD, "old.yaml")
        self.new = write(folder, NEW, "new.yaml")
        write(folder / "harness", "accounts: {old: of-ada, new: p1234}\n", "config.yaml")

    def save(self, *, site: Path | str | None = None, **cluster: Any) -> Path:
        at = str(site or self.old)
        resolved = load_spec(changed(cluster=cluster), site=at)
        return write(self.folder, dump_spec(resolved.spec), "spec.yaml")

    def at_new(self, saved: Path, *overrides: str) -> tuple[Resolved, str]:
        resolved, told = load_at_site(saved, overrides, str(self.new))
        assert resolved.site.name == "new"
        return resolved, "\n".join(told)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harness").mkdir()
    return Place(tmp_path)


def test_the_old_sites_values_give_way_and_the_runs_own_stay(place: Place) -> None:
    saved = place.save(cpus_per_rank=2, time="1:00:00", sbatch={"comment": "mine"})
    found, told = place.at_new(saved)
    cluster = found.spec.cluster
    assert (cluster.partition, cluster.account, cluster.qos) == ("booster", "p1234", None)
    assert (cluster.gpu_type, cluster.constraint, cluster.max_attempts) == (None, "gpu", 50)
    assert (cluster.cpus_per_rank, cluster.time) == (2, "1:00:00")
    assert cluster.sbatch == {"comment": "mine", "hint": "nomultithread"}
    assert cluster.site == str(place.new)
    assert found.sources["cluster.partition"] == f"site {place.new}"
    old, new = f"of site {place.old} was dropped", f"site {place.new}"
    config = place.folder / "harness" / "config.yaml"
    assert f"cluster.partition: low {old}, now booster ({new})" in told
    assert f"cluster.account: of-ada {old}, now p1234 (user config {config}:1)" in told
    assert f"cluster.qos: long {old}, now null (default)" in told
    assert f"cluster.constraint: was not given, now gpu ({new})" in told
    assert f"cluster.sbatch.licenses: lustre {old}, now left out" in told
    assert told.splitlines()[-1].startswith("kept, as the run's own: cluster.cpus_per_rank=2, ")
    # And what is saved then is the new site's as a whole.
    again = write(place.folder, dump_spec(found.spec), "spec.yaml")
    assert load_at_site(again, (), None)[0].spec.cluster == cluster
    assert load_at_site(again, (), str(place.new))[1] == ()


def test_a_run_of_no_site_in_particular(place: Place) -> None:
    found, told = place.at_new(place.save(site="generic", cpus_per_rank=2))
    assert found.spec.cluster.partition == "booster"
    assert found.spec.cluster.cpus_per_rank == 2
    assert "cluster.partition: was not given, now booster" in told


def test_options_win_and_are_not_told(place: Place) -> None:
    saved = place.save()
    found, told = place.at_new(saved, "cluster.partition=devel", "cluster.sbatch.licenses=x")
    assert found.spec.cluster.partition == "devel"
    assert found.spec.cluster.sbatch == {"licenses": "x", "hint": "nomultithread"}
    assert "cluster.partition" not in told
    assert "licenses" not in told


@pytest.mark.parametrize("named", ["new.yaml", "./new.yaml", "{folder}/new.yaml"])
def test_the_site_as_an_option(place: Place, named: str) -> None:
    option = f"cluster.site={named.format(folder=place.folder)}"
    found, told = load_at_site(place.save(), [option], None)
    assert found.spec.cluster.partition == "booster"
    assert told


@pytest.mark.parametrize("site", [None, "old.yaml", "{folder}/old.yaml"])
def test_at_its_own_site_nothing_changes(place: Place, site: str | None) -> None:
    saved = place.save(cpus_per_rank=2)
    place.old.write_text("name: old\ncluster: {partition: other}\n")
    named = None if site is None else site.format(folder=place.folder)
    found, told = load_at_site(saved, ["cluster.time=2:00:00"], named)
    assert (found.spec.cluster.partition, found.spec.cluster.time) == ("low", "2:00:00")
    assert told == ()


def test_an_old_profile_that_is_gone(place: Place) -> None:
    saved = place.save(time="1:00:00")
    place.old.unlink()
    with pytest.raises(UsageError) as caught:
        place.at_new(saved)
    said = str(caught.value)
    assert f"the profile of site {place.old}, which the run was at, cannot be read any more" in said
    assert "there is no such file" in said
    assert "max_attempts" not in said, "it is the default"
    flags = said.partition("now it is ")[2]
    assert flags == (
        "-o 'cluster.time=\"1:00:00\"' -o cluster.partition=low -o cluster.account=of-ada "
        "-o cluster.qos=long -o cluster.gpu_type=v100 -o cluster.sbatch.licenses=lustre "
        "-o 'cluster.sbatch.comment=of old'"
    )
    # With each of them said it goes on.
    found, told = place.at_new(
        saved,
        "cluster.time=1:00:00",
        "cluster.partition=booster",
        "cluster.account=null",
        "cluster.qos=null",
        "cluster.gpu_type=null",
        "cluster.sbatch={}",
    )
    assert found.spec.cluster.sbatch == {"hint": "nomultithread"}
    assert found.spec.cluster.constraint == "gpu"
    assert "constraint: was not given, now gpu" in told
    # Nothing of the site was in it.
    place.old.write_text("name: old\n")
    write(place.folder / "harness", "", "config.yaml")
    saved = place.save()
    place.old.unlink()
    assert place.at_new(saved)[0].spec.cluster.partition == "booster"


def test_what_is_wrong_is_told_as_ever(place: Place) -> None:
    saved = place.save()
    with pytest.raises(SpecError, match="there is no such site"):
        load_at_site(saved, (), "nwe")
    with pytest.raises(SpecError, match="unknown"):
        place.at_new(saved, "cluster.partitoin=x")
