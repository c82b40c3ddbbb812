"""Ranks in a container: what is mounted, what is refused, and the words that start them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SpecError, UsageError
from harness.launch.container import container_lines, inside_of, paths_of
from harness.launch.submit import submit
from harness.runs.container import container_facts
from harness.runs.paths import RunPaths
from harness.spec import load_spec
from tests.unit.container_helpers import PATHS, SPEC, inside, sif

__all__ = ["sif"]  # a fixture, found by its name


def site_file(folder: Path, text: str) -> str:
    file = folder / "here.yaml"
    file.write_text(f"name: here\n{text}")
    return str(file)


def test_without_a_container_there_is_nothing_of_it() -> None:
    assert inside_of(load_spec(SPEC), PATHS) is None


def test_every_path_that_the_ranks_read_is_seen_inside() -> None:
    plugins = ["/code/plugin.py"]
    spec = load_spec({**SPEC, "plugins": plugins, "cluster": {"container": "/i.sif"}}).spec
    assert dict(paths_of(spec)) == {
        "backbone.handle": "/models/m",
        "data.train": "/data/train",
        "data.validation": "/data/val",
        "data.test": "/data/test",
    }
    binds = dict(inside({"image": "/i.sif", "binds": ["/more"]}).binds)
    assert binds == {
        "/data/test": "data.test",
        "/data/train": "data.train",
        "/data/val": "data.validation",
        "/models/m": "backbone.handle",
        "/more": "cluster.container.binds",
        "/runs/textures/one": "the run directory",
    }
    assert list(binds) == sorted(binds), "a folder before those in it"
    address = {"backbone": {"handle": "https://tfhub.dev/google/m/5"}}
    assert "/models/m" not in dict(inside("/i.sif", **address).binds)


def test_the_spec_wins_over_the_site(tmp_path: Path) -> None:
    site = site_file(
        tmp_path,
        "cluster: {container: images/of site.sif}\n"
        "scratch_variables: [LOCAL]\n"
        "environment:\n"
        "  venv: /venv\n"
        "  variables: {LD_PRELOAD: /x.so}\n"
        "  container: {runtime: podman, program: podman-hpc, options: [--gpu], binds: [/gpfs]}\n",
    )
    found = inside_of(load_spec(SPEC, site=site), PATHS)
    assert found is not None
    assert found.image == str(tmp_path / "images/of site.sif")
    assert (found.runtime, found.program, found.options) == ("podman", "podman-hpc", ("--gpu",))
    assert dict(found.binds)["/gpfs"] == "the site's environment.container.binds"
    assert "LOCAL" in found.variables
    assert "LD_PRELOAD" not in found.hidden, "the profile wants it"
    assert "PYTHONPATH" in found.hidden
    own = inside({"image": "/i.sif", "runtime": "apptainer"}, site)
    assert (own.runtime, own.program, own.options) == ("apptainer", None, ()), "its own command"
    same = inside({"image": "/i", "runtime": "podman"}, site)
    assert (same.program, same.options) == ("podman-hpc", ("--gpu",))


def test_the_folder_that_data_are_staged_in_is_seen_where_a_node_has_it() -> None:
    found = inside("/i.sif")
    assert found.folders == ()
    cluster = {"container": "/i.sif", "stage": "/local/my data"}
    found = inside_of(load_spec({**SPEC, "cluster": cluster}), PATHS)
    assert found is not None
    assert "harness_see_if_there '/local/my data'" in container_lines(found)
    assert "/local/my data" not in dict(found.binds), "a node that lacks it is no error"


@pytest.mark.parametrize("container", [{"program": "x"}, {"options": ["--x"]}])
def test_a_command_of_no_runtime_is_refused(tmp_path: Path, container: dict[str, Any]) -> None:
    site = site_file(tmp_path, f"environment: {{container: {json.dumps(container)}}}\n")
    with pytest.raises(SpecError, match="belongs to one runtime"):
        load_spec(SPEC, site=site)


@pytest.mark.parametrize("name", ["a:b", "a,b"])
def test_a_path_that_no_runtime_can_mount_is_refused_with_its_field(name: str) -> None:
    data = {**SPEC["data"], "train": f"/data/{name}"}
    with pytest.raises(SpecError) as caught:
        inside("/i.sif", data=data)
    (problem,) = caught.value.problems
    assert (problem.path, problem.what) == ("data.train", "cannot be mounted in a container")
    run = RunPaths(Path(f"/runs/{name}"))
    with pytest.raises(SpecError, match="the run directory"):
        inside_of(load_spec({**SPEC, "cluster": {"container": "/i.sif"}}), run)


def test_a_local_job_has_no_container(tmp_path: Path) -> None:
    image = tmp_path / "i.sif"
    image.touch()
    resolved = load_spec({**SPEC, "cluster": {"site": "local", "container": str(image)}})
    with pytest.raises(UsageError, match="needs SLURM"):
        submit(resolved, run_dir=tmp_path / "run", say=print)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variables", "runtime", "image"),
    [
        (
            {"APPTAINER_CONTAINER": "/i.sif", "SINGULARITY_CONTAINER": "/i.sif"},
            "apptainer",
            "/i.sif",
        ),
        ({"SINGULARITY_CONTAINER": "/i.sif"}, "singularity", "/i.sif"),
        ({"CH_RUNNING": "Weird Al Yankovic"}, "charliecloud", None),
    ],
)
def test_a_container_is_recognised_by_what_it_sets(
    tmp_path: Path, variables: dict[str, str], runtime: str, image: str | None
) -> None:
    found = container_facts(variables, tmp_path)
    assert found == {
        "image": image,
        "runtime": runtime,
        "digest": None,
        "digest_of": None,
        "version": None,
    }


def test_the_batch_script_tells_more(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("0.1.0\n")
    variables = {
        "HARNESS_CONTAINER_IMAGE": "/i",
        "HARNESS_CONTAINER_RUNTIME": "podman",
        "HARNESS_CONTAINER_DIGEST": "sha256:00 of the list of packages",
    }
    assert container_facts(variables, tmp_path) == {
        "image": "/i",
        "runtime": "podman",
        "digest": "sha256:00",
        "digest_of": "list of packages",
        "version": "0.1.0",
    }
