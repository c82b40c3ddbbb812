"""Building Horovod: the changes of its sources, the choice of options, names, variables, errors."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import EnvironmentNotAble, UsageError
from harness.launch import horovod_build as build
from harness.launch import horovod_options as opts
from harness.launch.horovod_machine import Cuda, Machine, Mpi, look
from harness.launch.logged import Log
from tests.unit.horovod_build_helpers import CPU, MPI, gpu, label

__all__ = ["gpu"]  # a fixture, found by its name


def parts(machine: Machine, *asked: str) -> tuple[str, ...]:
    return opts.choose_options(machine, asked).parts


def test_everything_that_the_machine_can_is_built(gpu: Machine) -> None:
    assert parts(CPU) == ("gloo",)
    assert parts(MPI) == ("gloo", "mpi")
    assert parts(gpu) == ("gloo", "mpi", "nccl")


def test_exactly_what_is_asked_is_built(gpu: Machine) -> None:
    assert parts(gpu, "gloo") == ("gloo",)
    assert parts(gpu, "mpi") == ("gloo", "mpi")
    assert parts(gpu, "gloo", "nccl") == ("gloo", "nccl")


@pytest.mark.parametrize(
    ("change", "asked", "why"),
    [
        ({"mpi": None}, "mpi", "no mpicxx"),
        ({"nccl": None}, "nccl", "nvidia-nccl"),
        ({"cuda": None}, "nccl", "no CUDA toolkit"),
        ({"tensorflow_cuda": ""}, "nccl", "without CUDA"),
        ({"compiler": None}, "gloo", r"\$CXX"),
    ],
)
def test_what_cannot_be_built_is_refused_if_asked(
    gpu: Machine, change: dict[str, None], asked: str, why: str
) -> None:
    machine = dataclasses.replace(gpu, **change)  # type: ignore[arg-type]
    with pytest.raises(EnvironmentNotAble, match=why):
        opts.choose_options(machine, [asked])
    if asked != "gloo":
        options = opts.choose_options(machine)
        assert asked not in options.parts
        assert any(asked in line and line.startswith("no ") for line in options.why)


def test_unknown_parts_and_useless_architectures_are_refused(gpu: Machine) -> None:
    with pytest.raises(UsageError, match="got ddl, allowed: gloo, mpi, nccl"):
        opts.choose_options(gpu, ["gloo", "ddl"])
    with pytest.raises(UsageError, match="--cuda-arch"):
        opts.choose_options(MPI, architectures=[80])


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_no_tensorflow_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise ImportError('damaged')")
    with pytest.raises(EnvironmentNotAble, match=r"(?s)damaged.*harness\[train\]"):
        look({**os.environ, "PYTHONPATH": str(tmp_path)})


@pytest.fixture
def played_tensorflow(tmp_path: Path) -> dict[str, str]:
    """Variables with which a very small TensorFlow is imported, and only our programs found."""
    (tmp_path / "played").mkdir()
    (tmp_path / "played" / "tensorflow.py").write_text(
        "class sysconfig:\n"
        "    get_build_info = staticmethod(lambda: {'is_cuda_build': True, 'cuda_version': '12'})\n"
        "    get_compile_flags = staticmethod(lambda: ['-I/x', '-D_GLIBCXX_USE_CXX11_ABI=0'])\n"
        "class config:\n"
        "    list_physical_devices = staticmethod(lambda kind: [kind] * 2)\n"
        "__version__ = '2.20.0'\n"
    )
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "PYTHONPATH": str(tmp_path / "played")}


def test_what_is_there_is_found(tmp_path: Path, played_tensorflow: dict[str, str]) -> None:
    program(tmp_path / "bin", "clang++", "")
    program(tmp_path / "bin", "mpicxx", "echo clang++ -lmpi")
    home = tmp_path / "cuda"
    program(tmp_path / "bin", "nvcc", f"echo '#$ TOP={home}/bin/..' >&2")
    (home / "include").mkdir(parents=True)
    (home / "include" / "cuda_runtime.h").touch()
    program(home / "bin", "nvcc", "echo 'Cuda compilation tools, release 12.9, V12.9.1'")
    for name in ("include/nccl.h", "lib64/libnccl.so"):
        (tmp_path / "nccl" / name).parent.mkdir(parents=True)
        (tmp_path / "nccl" / name).touch()
    seen = look({**played_tensorflow, "NCCL_HOME": str(tmp_path / "nccl")})
    assert (seen.tensorflow, seen.tensorflow_cuda, seen.gpus, seen.abi) == (
        "2.20.0",
        "12",
        2,
        "abi0",
    )
    assert seen.compiler == str(tmp_path / "bin" / "clang++")
    assert seen.mpi == Mpi(str(tmp_path / "bin" / "mpicxx"), "clang++ -lmpi")
    assert seen.cuda == Cuda(home, "12.9")
    assert seen.nccl == tmp_path / "nccl"


def test_what_is_not_there_is_not_found(played_tensorflow: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "bin", "mpicxx", "exit 1")
    seen = look({**played_tensorflow, "CXX": "no-such-compiler -O2"})
    assert (seen.compiler, seen.mpi, seen.nccl) == (None, None, None)


@pytest.mark.parametrize("option", ["cuda_home", "nccl_home"])
def test_a_named_folder_must_hold_it(
    played_tensorflow: dict[str, str], tmp_path: Path, option: str
) -> None:
    with pytest.raises(EnvironmentNotAble, match=f"--{option.replace('_', '-')} names no"):
        look(played_tensorflow, **{option: tmp_path})


def plan(tmp_path: Path) -> build.Plan:
    (tmp_path / "wheels").mkdir()
    return build.Plan(CPU, opts.choose_options(CPU), label(CPU), tmp_path / "wheels")


def test_no_index_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    nothing = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PATH": os.environ["PATH"]}
    wanted = plan(tmp_path)
    with pytest.raises(EnvironmentNotAble, match="could not be fetched") as refused:
        build.make_wheel(wanted, build.Asked(), nothing, print)
    assert str(wanted.log) in str(refused.value)
    assert "No matching distribution" in str(refused.value)
    assert not list(wanted.wheels.glob("*.whl"))


def test_a_wheel_of_the_right_name_is_taken(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    wheel = wanted.wheels / f"horovod-{wanted.version}-cp311-cp311-linux_x86_64.whl"
    wheel.touch()
    (wanted.wheels / "horovod-0.28.1+tf2.21.0.gloo.k00000000-cp311.whl").touch()
    assert build.make_wheel(wanted, build.Asked(), {}, print) == (wheel, False)


def test_a_second_build_of_the_same_waits_for_the_first(tmp_path: Path) -> None:
    wanted, said = plan(tmp_path), []
    code = (
        "import fcntl, sys; held = open(sys.argv[1], 'w'); fcntl.lockf(held, fcntl.LOCK_EX); "
        "print(flush=True); sys.stdin.read()"
    )
    lock = str(wanted.wheels / f".horovod-{wanted.version}.lock")
    with subprocess.Popen(
        [sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin and other.stdout
        other.stdout.readline()

        def say(line: str) -> None:
            said.append(line)
            (wanted.wheels / f"horovod-{wanted.version}-made.whl").touch()
            other.stdin.close()

        assert build.make_wheel(wanted, build.Asked(), {}, say)[1] is False
    assert ["waiting for it" in line for line in said] == [True]


def test_the_telling_lines_of_a_log(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        assert log.run(["sh", "-c", "echo error: of before"], os.environ) == 0
        text = "echo a; echo 'x.cc:3:1: error: no such thing'; echo b; echo '  CMake Error at c'"
        assert log.run(["sh", "-c", f"{text}; exit 5"], os.environ) == 5
        assert log.telling() == "x.cc:3:1: error: no such thing | CMake Error at c"
        assert log.run(["sh", "-c", "echo one; echo two"], os.environ) == 0
        assert log.telling() == "one | two"
        assert log.run(["/no/such/program"], os.environ) == 127
        assert "No such file" in log.telling()
        assert log.run(["sleep", "600"], os.environ, longest_s=0.1) == 124


def test_what_a_command_leaves_is_ended(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.run(["sh", "-c", "sleep 600 & echo $!"], os.environ)
    pid = int((tmp_path / "log").read_text().splitlines()[-1])
    state = Path(f"/proc/{pid}/stat")
    while state.exists() and state.read_text().rpartition(") ")[2][0] != "Z":
        pass


@pytest.mark.parametrize("words", [["--rebuild"], ["--jobs", "2"], ["--cuda-arch", "80"]])
def test_check_takes_no_options_of_a_build(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["horovod", "--check", *words]) == 2
    assert f"got {words[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--jobs", "0"], ["--cuda-arch", "sm_80"], ["--with"]])
def test_nonsense_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["horovod", *words])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_check_without_horovod_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.distribute.horovod_built.horovod_facts", lambda: None)
    assert main(["horovod", "--check", "--with", "gloo,mpi"]) == 3
    assert "harness horovod --with gloo,mpi" in capsys.readouterr().err


def test_the_wheel_is_kept_readable_for_its_owner(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "a.whl").write_bytes(b"wheel")
    kept = build._keep(tmp_path / "a.whl", tmp_path / "wheels")
    assert kept.read_bytes() == b"wheel"
    assert kept.stat().st_mode & stat.S_IRUSR
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == ["a.whl"]
