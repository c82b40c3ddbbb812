"""Ranks in a container: the words that start them on the node."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.launch.container import Inside, container_lines
from tests.unit.container_helpers import sif
from tests.unit.rights import lacking, needs_root

__all__ = ["sif"]  # a fixture, found by its name


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
