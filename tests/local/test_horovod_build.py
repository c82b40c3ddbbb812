"""The kept wheel of Horovod, installed by the verb into an environment that has none.

Compiling takes minutes, so the wheel is the one that ``make horovod`` (in CI, ``make test``) left
in the cache.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
import venv
from pathlib import Path

import pytest

from harness.distribute.horovod_built import compiled_in
from harness.launch.horovod_build import Asked, make_plan
from harness.worker.environment import cache_root
from tests.horovod_here import HOW, lacking

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 1200


class Other:
    """An environment with everything that this one has, except Horovod."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "venv", with_pip=True)
        self.python = folder / "venv" / "bin" / "python"
        (self.site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        shared = folder / "shared"
        shared.mkdir()
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if not entry.name.startswith("horovod"):
                (shared / entry.name).symlink_to(entry)
        (self.site / "shared.pth").write_text(f"{shared}\n{ROOT}\n")

    def horovod(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs the verb there."""
        return subprocess.run(
            [self.python, "-m", "harness", "horovod", *words],
            cwd=self.site.parent,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )

    @property
    def library(self) -> Path:
        """The compiled operations."""
        (found,) = (self.site / "horovod" / "tensorflow").glob("mpi_lib*.so")
        return found


@pytest.fixture(scope="module")
def wheel() -> Path:
    environment = dict(os.environ)
    plan = make_plan(Asked(), environment, cache_root(environment, print))
    if plan.wheel is None:
        lacking(f"no wheel of Horovod {plan.version} in {plan.wheels}: {HOW}")
    return plan.wheel


@pytest.fixture(scope="module")
def other(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Other:
    return Other(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def answer(other: Other, wheel: Path) -> dict:
    """What the verb says of its first run there."""
    refused = other.horovod("--check")
    assert refused.returncode == 3
    assert f"Horovod is not installed; next: {other.python} -m harness horovod" in refused.stderr
    done = other.horovod("--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_taken_from_the_cache_installed_and_proved(
    answer: dict, other: Other, wheel: Path
) -> None:
    assert answer["wheel"] == str(wheel)
    assert answer["built"] is False
    tried = {name: check["ok"] for name, check in answer["checks"].items()}
    assert tried.pop("mpirun", True) is not False
    assert tried == {"gloo": True, "horovodrun": True}
    assert (other.site / f"horovod-{answer['version']}.dist-info").is_dir()


def test_all_that_can_be_built_here_is_built(answer: dict, other: Other) -> None:
    assert "gloo" in answer["built_with"]
    built = [line.partition(":")[0] for line in answer["why"] if not line.startswith("no ")]
    assert [part for part in answer["built_with"] if part != "cuda"] == built
    seen = compiled_in(other.library)
    assert seen.pop("wakes")
    assert [part for part, there in seen.items() if there] == answer["built_with"]


def test_it_looks_for_libraries_in_no_folder_of_the_build(answer: dict, other: Other) -> None:
    # Somebody else could make that folder again, and put a library into it.
    readelf = shutil.which("readelf")
    if readelf is None:
        lacking("needs readelf, of the package binutils")
    done = subprocess.run(
        [readelf, "-d", other.library], capture_output=True, text=True, check=True
    )
    paths = [line for line in done.stdout.splitlines() if "PATH)" in line]
    assert not [line for line in paths if "horovod-" in line]


def test_a_part_that_it_lacks_is_told(answer: dict, other: Other) -> None:
    if "nccl" in answer["built_with"]:
        pytest.skip("Horovod was built with NCCL here")
    done = other.horovod("--check", "--with", "nccl")
    assert done.returncode == 3
    assert "was built without nccl" in done.stderr
    assert "harness horovod --with nccl" in done.stderr


def test_a_horovod_that_cannot_be_loaded_is_told(answer: dict, other: Other) -> None:
    whole = other.library.read_bytes()
    needed = b"libtensorflow_framework.so.2"
    other.library.write_bytes(whole.replace(needed, needed[:-1] + b"9"))
    try:
        done = other.horovod("--check")
    finally:
        other.library.write_bytes(whole)
    assert done.returncode == 3
    assert "two ranks of Horovod by gloo do not work" in done.stderr
    assert "libtensorflow_framework.so.9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_horovod_that_was_cut_off_is_told(answer: dict, other: Other) -> None:
    whole = other.library.read_bytes()
    other.library.write_bytes(whole[: len(whole) // 2])
    try:
        done = other.horovod("--check", "--json")
    finally:
        other.library.write_bytes(whole)
    assert done.returncode == 3
    assert "cut off" in done.stderr
    assert done.stdout == ""


def test_sources_that_are_not_the_release_are_refused(other: Other, tmp_path: Path) -> None:
    (tmp_path / "horovod-0.28.1.tar.gz").write_bytes(b"changed")
    done = other.horovod(
        "--wheel-only", "--wheel-dir", str(tmp_path / "kept"), "--sdist",
        str(tmp_path / "horovod-0.28.1.tar.gz"),
    )  # fmt: skip
    assert done.returncode == 3
    assert "is not the source package of Horovod 0.28.1" in done.stderr
    assert not list((tmp_path / "kept").glob("*.whl"))


def test_what_compiles_ends_with_the_verb(other: Other, tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid.new\n")
    with compiler.open("a") as script:
        script.write(f"mv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep {LONGEST_S}\n")
    compiler.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    command = [other.python, "-m", "harness", "horovod", "--wheel-only", "--with", "gloo"]
    with subprocess.Popen(
        [*command, "--wheel-dir", str(tmp_path / "kept")],
        env={**os.environ, "CXX": str(compiler), "TMPDIR": str(tmp_path / "tmp")},
    ) as verb:
        while not (tmp_path / "pid").exists():
            assert verb.poll() is None, "it ended before it compiled"
            time.sleep(0.1)
        verb.terminate()
        assert verb.wait(LONGEST_S) == 128 + signal.SIGTERM
    state = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    while state.exists() and state.read_text().rpartition(") ")[2][0] != "Z":
        time.sleep(0.1)
    assert not list((tmp_path / "tmp").iterdir())


def test_a_compiler_that_fails_is_told_with_the_log(other: Other, tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho 'error: no such day for it' >&2\nexit 1\n")
    compiler.chmod(0o755)
    command = [other.python, "-m", "harness", "horovod", "--wheel-only", "--with", "gloo"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "CXX": str(compiler), "CC": str(compiler)},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 3, done.stdout
    assert "Horovod did not compile" in done.stderr
    (log,) = tmp_path.glob("horovod-*.log")
    assert str(log) in done.stderr
    assert "no such day for it" in log.read_text()
