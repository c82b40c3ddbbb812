"""Building Horovod: the changes of its sources, the choice of options, names, variables, errors."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.errors import EnvironmentNotAble, UsageError
from harness.launch import horovod_build as build
from harness.launch import horovod_options as opts
from harness.launch.horovod_machine import Cuda, Machine, Mpi, look
from harness.launch.horovod_patch import PATCHES, apply_patches
from harness.launch.horovod_wake import LOOKS
from harness.launch.logged import Log

CMAKE = """\
set(SOURCES)
list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/mpi_ops.cc")
list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/xla_mpi_ops.cc")
add_library(it)
"""
OPERATIONS = """\
namespace gpu {
GpuStreamHandle AsGpuStreamValue(Stream* stream);
}
#if TENSORFLOW_VERSION >= 2011000000
#include "tensorflow/compiler/xla/stream_executor/stream.h"
#else
#include "tensorflow/stream_executor/stream.h"
#endif // TENSORFLOW_VERSION >= 2011000000
int after;
"""
FLAGS = """\
string(REPLACE "-O2" "-O3" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
string(REPLACE "-O2" "-O3" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
if(GLOO)
    add_subdirectory(third_party/gloo)
endif()
    add_subdirectory(third_party/compatible_gloo)
"""
QUEUE_H = """#include <iostream>
class TensorQueue {
  void RemoveJoinTensor();
};
"""
QUEUE = """#include <assert.h>
namespace horovod {
namespace common {
Status One() {
  message_queue_.push(std::move(message));
  return Status::OK();
}
Status Many() {
  for (;;) {
    message_queue_.push(std::move(messages[i]));
  }
  return Status::OK();
}
void Again() {
  message_queue_.push(std::move(message));
}
"""
LOOP = f"bool RunLoopOnce() {{\n{LOOKS}}}\n"
TEXTS = dict(
    zip(
        [patch.file for patch in PATCHES],
        [CMAKE, OPERATIONS, FLAGS, QUEUE_H, QUEUE, LOOP],
        strict=True,
    )
)
CPU = Machine(
    tensorflow="2.21.0",
    tensorflow_cuda="",
    gpus=0,
    abi="abi1",
    python="cp311",
    platform="linux-x86_64-glibc-2.36",
    vector_flags=("-mavx", "-mfma"),
    site_packages=Path("/env/site-packages"),
    compiler="/usr/bin/c++",
)
MPI = dataclasses.replace(CPU, mpi=Mpi("/usr/bin/mpicxx", "g++ -lmpi"))


@pytest.fixture
def gpu(tmp_path: Path) -> Machine:
    """A machine for NCCL, with the library as its package has it: only under a long name."""
    nccl = tmp_path / "site-packages" / "nvidia" / "nccl"
    (nccl / "lib").mkdir(parents=True)
    (nccl / "lib" / "libnccl.so.2").touch()
    return dataclasses.replace(
        MPI,
        tensorflow_cuda="12.5.1",
        nccl=nccl,
        cuda=Cuda(Path("/cuda"), "12.5"),
        site_packages=tmp_path / "site-packages",
    )


# -- the changes of the sources


def write_sources(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_changes_are_made_and_told(tmp_path: Path) -> None:
    said = apply_patches(write_sources(tmp_path, TEXTS))
    assert len(said) == len(PATCHES)
    cmake = (tmp_path / PATCHES[0].file).read_text()
    assert cmake == "".join(x for x in CMAKE.splitlines(True) if "xla_mpi_ops" not in x)
    lines = (tmp_path / PATCHES[1].file).read_text().splitlines()
    assert "GpuStreamHandle AsGpuStreamValue(Stream* stream);" not in lines
    (defined,) = (n for n, line in enumerate(lines) if "inline GpuStreamHandle" in line)
    assert lines.index("#endif // TENSORFLOW_VERSION >= 2011000000") < defined
    assert defined < lines.index("int after;")
    whole = (tmp_path / PATCHES[2].file).read_text().splitlines()
    changed = [line for line in whole if line not in FLAGS.splitlines()]
    assert [("-O2 -g" in line, "EXCLUDE_FROM_ALL" in line) for line in changed] == [
        (True, False),
        (False, True),
    ]
    queue = (tmp_path / PATCHES[4].file).read_text()
    one, many, again = re.split("Status Many|void Again", queue.partition("Status One")[2])
    assert [part.count("NoteAdded();") for part in (one, many, again)] == [1, 1, 0]
    loop = (tmp_path / PATCHES[5].file).read_text()
    assert loop.count("HOROVOD_IDLE_TIME") == 1 and LOOKS not in loop


@pytest.mark.parametrize("file", TEXTS)
@pytest.mark.parametrize("broken", [lambda text: "", lambda text: text + text, None])
def test_other_sources_are_refused(
    tmp_path: Path, file: str, broken: Callable[[str], str] | None
) -> None:
    write_sources(tmp_path, TEXTS)
    if broken is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(broken(TEXTS[file]))
    with pytest.raises(EnvironmentNotAble, match=rf"{file} does not fit this Horovod.*0\.28\.1"):
        apply_patches(tmp_path)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.file)
def test_a_change_is_made_only_once(patch: Any) -> None:
    with pytest.raises(ValueError, match="there 0 times"):
        patch.change(patch.change(TEXTS[patch.file]))


# -- what is built


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


# -- the name of the result


def label(machine: Machine, environment: dict[str, str] | None = None, **more: Any) -> str:
    return opts.version_label(machine, opts.choose_options(machine, **more), environment or {})


def test_the_name_tells_what_was_built_for_what(gpu: Machine) -> None:
    assert label(CPU).startswith("0.28.1+tf2.21.0.gloo.k")
    assert label(gpu).startswith("0.28.1+tf2.21.0.gloo.mpi.nccl.k")
    nightly = dataclasses.replace(CPU, tensorflow="2.22.0-dev20260101+nv")
    assert label(nightly).startswith("0.28.1+tf2.22.0.dev20260101.nv.gloo.k")


@pytest.mark.parametrize(
    "change",
    [
        {"tensorflow": "2.17.1"},
        {"python": "cp312"},
        {"platform": "linux-x86_64-glibc-2.17"},
        {"abi": "abi0"},
        {"vector_flags": ()},
        {"mpi": Mpi("/usr/bin/mpicxx", "icpx -lmpi")},
        {"cuda": Cuda(Path("/cuda"), "13.0")},
        {"site_packages": Path("/elsewhere")},
    ],
    ids=str,
)
def test_all_that_changes_the_result_changes_the_name(gpu: Machine, change: dict[str, Any]) -> None:
    assert label(dataclasses.replace(gpu, **change)) != label(gpu)


def test_options_and_compilers_are_in_the_name(gpu: Machine) -> None:
    names = [
        label(gpu),
        label(gpu, {"CXX": "clang++"}),
        label(gpu, architectures=[80]),
        label(gpu, architectures=[80, 90]),
        label(gpu, asked=["mpi"]),
        label(gpu, asked=["gloo"]),
    ]
    assert len(set(names)) == len(names)
    assert label(gpu, architectures=[90, 80]) == names[3]
    assert label(gpu, {"HOME": "/x", "HOROVOD_WITH_MPI": "0"}) == names[0]


def test_the_place_of_the_environment_is_not_in_the_name(gpu: Machine, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    site = gpu.site_packages.rename(tmp_path / "other" / "site")
    before = label(dataclasses.replace(gpu, nccl=site / "nvidia" / "nccl", site_packages=site))
    site.rename(gpu.site_packages)
    assert label(gpu) == before


# -- the variables of the build


def variables(machine: Machine, environment: dict[str, str]) -> dict[str, str]:
    return opts.build_variables(
        machine,
        opts.choose_options(machine),
        environment,
        label=label(machine),
        tools=Path("/t"),
        links=Path("/l"),
        jobs=3,
    )


def test_the_variables_of_a_build_with_cpus() -> None:
    seen = variables(CPU, {"PATH": "/bin", "LDFLAGS": "-L/x", "HOROVOD_WITH_PYTORCH": "1"})
    assert seen["HOROVOD_WITHOUT_MPI"] == seen["HOROVOD_WITH_GLOO"] == "1"
    assert "HOROVOD_WITH_MPI" not in seen
    assert "HOROVOD_WITH_PYTORCH" not in seen
    assert not [name for name in seen if "NCCL" in name or "CUDA" in name]
    assert seen["LDFLAGS"] == "-L/x"
    assert seen["PATH"] == "/t/bin:/bin"
    assert seen["PYTHONPATH"] == "/t"
    assert seen["HOROVOD_BUILD_ARCH_FLAGS"] == "-mavx -mfma"
    assert seen["MAKEFLAGS"] == "-j3"
    assert f"0.28.1+{seen['HOROVOD_LOCAL_VERSION']}" == label(CPU)


def test_the_variables_of_a_build_with_gpus(gpu: Machine) -> None:
    seen = variables(gpu, {"MAKEFLAGS": "n", "CMAKE_GENERATOR": "Ninja"})
    assert seen["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    assert seen["HOROVOD_WITH_MPI"] == "1"
    assert seen["HOROVOD_NCCL_LIB"] == "/l"
    assert seen["LDFLAGS"].endswith("-Wl,-rpath,$ORIGIN/../../nvidia/nccl/lib")
    assert "CMAKE_GENERATOR" not in seen
    assert "HOROVOD_BUILD_CUDA_CC_LIST" not in seen
    elsewhere = dataclasses.replace(gpu, site_packages=Path("/env"))
    assert variables(elsewhere, {})["LDFLAGS"].endswith(f"-rpath,{gpu.nccl}/lib")


@given(st.dictionaries(st.sampled_from(["PATH", "PYTHONPATH", "A", "HOROVOD_X"]), st.text()))
def test_the_shell_is_kept_but_for_horovod(environment: dict[str, str]) -> None:
    seen = variables(CPU, environment)
    assert seen.get("A") == environment.get("A")
    assert "HOROVOD_X" not in seen


# -- looking around


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


# -- the build's steps that fail


def test_another_source_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "horovod-0.28.1.tar.gz").write_bytes(b"something else")
    with pytest.raises(EnvironmentNotAble, match=r"is not the source package.*got sha256"):
        build._unpack(tmp_path / "horovod-0.28.1.tar.gz", tmp_path)
    with pytest.raises(EnvironmentNotAble, match="cannot be read"):
        build._unpack(tmp_path / "none.tar.gz", tmp_path)


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


# -- the verb


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
