"""Ranks in a container: what is mounted, what is refused, and the words that start them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SpecError, UsageError
from harness.launch.container import Inside, check_image, container_lines, inside_of, paths_of
from harness.launch.submit import submit
from harness.runs.container import container_facts
from harness.runs.paths import RunPaths
from harness.spec import load_spec
from harness.spec.existence import check_paths
from tests.unit.rights import lacking, needs_root

SPEC: dict[str, Any] = {
    "harness_spec": 1,
    "name": "textures",
    "backbone": {"handle": "hub:/models/m"},
    "data": {"train": "/data/train", "validation": "/data/val", "test": "/data/test"},
    "training": {"phases": [{"name": "head", "epochs": 5}]},
}
PATHS = RunPaths(Path("/runs/textures/one"))


def inside(container: Any, site: str | None = None, **more: Any) -> Inside:
    found = inside_of(
        load_spec({**SPEC, **more, "cluster": {"container": container}}, site=site), PATHS
    )
    assert found is not None
    return found


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


# ---- the image, before anything is queued


def problem_of(image: Path) -> str:
    resolved = load_spec({**SPEC, "cluster": {"container": {"image": str(image)}}})
    found = [one for one in check_paths(resolved) if (one.path or "").startswith("cluster")]
    if not found:
        check_image(resolved)
        return ""
    with pytest.raises(SpecError) as caught:
        check_image(resolved)
    assert list(caught.value.problems) == found
    (one,) = found
    assert one.path == "cluster.container.image"
    assert one.action
    return one.what


def test_an_image_must_be_there_and_nobody_elses(tmp_path: Path) -> None:
    image = tmp_path / "i.sif"
    assert problem_of(image) == "cannot be found (No such file or directory)"
    image.touch(0o644)
    assert problem_of(image) == ""
    image.chmod(0o666)
    assert "others may write" in problem_of(image)
    folder = tmp_path / "folder"
    folder.mkdir(0o755)
    assert problem_of(folder) == ""
    assert problem_of(tmp_path / "i.sif" / "inside") == "cannot be found (Not a directory)"


@needs_root
def test_somebody_elses_image_is_a_strangers_program(tmp_path: Path) -> None:
    image = tmp_path / "i.sif"
    image.touch(0o644)
    os.chown(image, 12345, 12345)
    assert "belongs to somebody else" in problem_of(image)


def test_an_image_in_a_store_is_looked_for_on_the_node() -> None:
    stored = {**SPEC, "cluster": {"container": "containers-storage:localhost/harness:1"}}
    check_image(load_spec(stored))


# ---- on the node

# What stands for a runtime says with what it was called, and then runs the command.
RUNTIME = f"""#!{shutil.which("bash")}
printf '%s\\n' "$@" >"$SAID"
if [ -n "$FAILS" ]; then echo "no such thing" >&2; exit 7; fi
if [ "$1" = image ]; then echo sha256:11; exit; fi
echo "${{VERSION-0.1.0}}"
"""
TOOLS = ("env", "grep", "head", "id", "ls", "mkdir", "sha256sum", "uname")
REFUSE = 'harness_say() { echo "$@" >&2; }; harness_refuse() { harness_say "$2"; exit "$1"; }\n'
SHOW = 'printf "%s\\0" "${harness_inside[@]}" "$harness_python" "$HARNESS_CONTAINER_DIGEST"\n'


class Node:
    """Runs the lines of a container as a batch shell does, on a node that has some runtimes."""

    def __init__(self, folder: Path, *runtimes: str) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        # A runtime that this machine itself has is not there.
        for name in TOOLS:
            found = shutil.which(name)
            assert found is not None, f"every system has {name}"
            (self.bin / name).symlink_to(found)
        for name in runtimes:
            (self.bin / name).write_text(RUNTIME)
            (self.bin / name).chmod(0o755)
        self.run = folder / "run"
        self.run.mkdir()

    def enter(self, image: Path | str, code: int = 0, **more: Any) -> list[str] | str:
        """The words before a command in there, the Python and the digest; or what was refused."""
        variables = more.pop("variables", {})
        values: dict[str, Any] = {
            "runtime": None,
            "program": None,
            "python": "python3",
            "options": (),
            "binds": ((str(self.run), "the run directory"),),
            "variables": ("HARNESS_CACHE", "TMPDIR"),
            "folders": (),
            "hidden": ("PYTHONPATH",),
            **more,
        }
        lines = container_lines(Inside(image=str(image), **values))
        text = "\n".join([REFUSE, f"harness_run={shlex.quote(str(self.run))}", *lines, SHOW])
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-c", text],
            cwd=self.folder,
            env={
                "PATH": str(self.bin),
                "HOME": str(self.folder),
                "SLURMD_NODENAME": "n1",
                "SAID": str(self.folder / "said"),
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        self.said = done.stderr
        return done.stdout.rstrip("\0").split("\0") if code == 0 else done.stderr


@pytest.fixture
def sif(tmp_path: Path) -> Path:
    """A file that begins as a SIF image does: a line for the shell, then the magic."""
    file = tmp_path / "an image.sif"
    file.write_bytes(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0" + bytes(100))
    return file


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with what ch-run wants to find in an image."""
    root = tmp_path / "tree"
    for name in ("data", "tmp", "usr/lib/x", "usr/local/share/harness", "scratch"):
        (root / name).mkdir(parents=True)
    (root / "usr/local/share/harness/packages.txt").write_text("a 1\n")
    return root


def test_apptainer(tmp_path: Path, sif: Path) -> None:
    node = Node(tmp_path, "apptainer")
    cache = tmp_path / "cache"
    words = node.enter(sif, variables={"HARNESS_CACHE": str(cache)}, options=("--rocm",))
    gpu = ["--nv"] if Path("/dev/nvidiactl").exists() else []
    assert words[:-2] == [
        *("env", "-u", "PYTHONPATH", "LC_ALL=C.UTF-8", "PYTHONNOUSERSITE=1"),
        *("apptainer", "exec", "--no-home", "--pwd", str(node.run), *gpu),
        *("--bind", str(node.run), "--bind", str(cache), "--rocm", str(sif)),
    ]
    assert cache.is_dir(), "made here: in the container it could not be"
    assert words[-2] == "python3"
    assert str(words[-1]).startswith("sha256:")
    assert str(words[-1]).endswith(" of the file")


def test_singularity_is_called_the_same_way(tmp_path: Path, sif: Path) -> None:
    words = Node(tmp_path, "singularity").enter(sif)
    assert words[5:7] == ["singularity", "exec"]


def test_charliecloud_mounts_where_the_image_has_a_folder(tmp_path: Path, tree: Path) -> None:
    node = Node(tmp_path, "ch-run")
    data = tmp_path / "data"
    data.mkdir()
    words = node.enter(tree, binds=((str(data), "data.train"), ("/tmp", "x")))
    at = words.index("ch-run")
    # The image's /tmp is empty, so the node's is seen in its place, with all that is in it.
    inside_tmp = str(tmp_path).startswith("/tmp/")
    assert words[at:-2] == [
        *("ch-run", "--cd", str(node.run), "--env-no-expand"),
        *(["--bind", "/tmp"] if inside_tmp else []),
        *(str(tree), "--"),
    ]
    assert str(words[-1]).endswith(" of the list of packages")
    (tree / "ch").mkdir()
    (tree / "ch" / "environment").touch()
    assert "--set-env" in node.enter(tree, binds=())


def test_charliecloud_refuses_what_it_cannot_show(tmp_path: Path, tree: Path) -> None:
    node = Node(tmp_path, "ch-run")
    said = node.enter(tree, code=3, binds=(("/usr/share", "data.train"),))
    assert "data.train: '/usr/share' cannot be mounted" in said
    assert "next: mkdir -p " in said
    said = node.enter(tree, code=3, binds=(("/nowhere/at/all", "data.test"),))
    assert "data.test: '/nowhere/at/all' is not there on n1" in said
    squashed = tmp_path / "image.sqfs"
    squashed.write_bytes(b"hsqs" + bytes(96))
    said = node.enter(squashed, code=3, binds=(("/usr/share", "data.train"),))
    assert "cannot be mounted" in said
    words = node.enter(squashed, binds=(("/tmp", "data.train"),))
    assert words[words.index("--bind") + 1] == "/tmp"


def test_a_variable_of_a_folder_that_is_not_seen_is_not_set_inside(
    tmp_path: Path, tree: Path
) -> None:
    node = Node(tmp_path, "ch-run")
    words = node.enter(tree, variables={"TMPDIR": "/usr/share"}, binds=())
    assert words[1:5] == ["-u", "PYTHONPATH", "-u", "TMPDIR"]
    assert "TMPDIR is not set for the ranks" in node.said


def test_podman(tmp_path: Path, tree: Path) -> None:
    node = Node(tmp_path, "podman", "podman-hpc")
    words = node.enter(tree)
    assert words[5:8] == ["podman", "run", "--rm"]
    for option in ("--read-only", "--network=host", "--uts=host", "--userns=keep-id", "--env-host"):
        assert option in words
    assert words[-4:-2] == ["--rootfs", f"{tree}:O"]
    stored = "containers-storage:localhost/harness:1"
    words = node.enter(stored, runtime="podman", program="podman-hpc", options=("--gpu",))
    assert words[5] == "podman-hpc"
    assert words[-4:-2] == ["--gpu", "localhost/harness:1"]


@pytest.mark.parametrize(
    ("runtimes", "more", "text"),
    [
        ((), {}, "there is no apptainer, singularity on n1"),
        (("ch-run", "podman"), {}, "there is no apptainer, singularity on n1"),
        ((), {"runtime": "apptainer"}, "there is no apptainer on n1"),
        (("ch-run",), {"runtime": "charliecloud"}, "cannot run this kind of image (SIF)"),
        (("podman",), {"runtime": "podman"}, "use one of: apptainer singularity"),
        (("apptainer",), {"variables": {"FAILS": "yes"}}, "cannot import harness on n1"),
        (("apptainer",), {"variables": {"VERSION": "0.2.0"}}, "the image has harness 0.2.0, and"),
    ],
)
def test_what_cannot_be_ends_the_job_with_code_3(
    tmp_path: Path, sif: Path, runtimes: tuple[str, ...], more: dict[str, Any], text: str
) -> None:
    said = Node(tmp_path, *runtimes).enter(sif, code=3, **more)
    assert "cluster.container: " in said
    assert text in said
    assert "next: " in said


def test_another_patch_release_inside_is_only_told(tmp_path: Path, sif: Path) -> None:
    node = Node(tmp_path, "apptainer")
    node.enter(sif, variables={"VERSION": "0.1.9"})
    assert "the image has harness 0.1.9, submitted by 0.1.0" in node.said


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path, "apptainer", "ch-run", "podman")
    text = tmp_path / "text"
    text.write_text("SIF")
    assert "is neither a SIF nor a squashfs file nor a folder" in node.enter(text, code=3)
    assert "cannot be read on n1" in node.enter(tmp_path / "gone", code=3)


@pytest.mark.parametrize("name", ["$(touch canary)", "`touch canary`", "a'; touch canary; '", '"'])
def test_nothing_of_a_name_is_executed(tmp_path: Path, sif: Path, name: str) -> None:
    odd = tmp_path / name
    sif.rename(odd)
    bound = tmp_path / f"b{name}"
    bound.mkdir()
    node = Node(tmp_path, "apptainer")
    words = node.enter(odd, binds=((str(bound), name),), options=(name,))
    assert words[-4:-2] == [name, str(odd)]
    assert str(bound) in words
    node.enter(odd, code=3, runtime="podman", program=name)
    assert not (tmp_path / "canary").exists()


@needs_root
def test_podman_knows_the_options(tmp_path: Path, tree: Path) -> None:
    """podman itself reads the words, and gets as far as looking for the image."""
    found = shutil.which("podman")
    if found is None:
        lacking("podman is not installed; next: sudo .ci/system-packages containers")
    node = Node(tmp_path, "podman")
    words = node.enter("containers-storage:localhost/nowhere/at-all:1", runtime="podman")
    at = words.index("podman")
    rest = words[at + 2 : -2]
    with tempfile.TemporaryDirectory() as short:  # podman has a limit on the length
        command = [found, "--root", f"{short}/s", "--runroot", f"{short}/r", "run"]
        command += ["--pull=never", *rest, "true"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for mounted in (f"{short}/s/overlay", f"{short}/s"):
            subprocess.run(["umount", mounted], capture_output=True, check=False)
    assert "no such image" in done.stderr or "image not known" in done.stderr, done.stderr


# ---- what the run record says


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
