"""What this machine has to build Horovod with: TensorFlow, a compiler, MPI, CUDA, NCCL.

TensorFlow is asked in a process of its own, so that nothing of it stays in this one.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import EnvironmentNotAble

_LONGEST_S = 600.0
"""The first import of TensorFlow from a slow network file system takes minutes."""

_ASK_TENSORFLOW = """
import importlib.util, json
import tensorflow as tf
build = tf.sysconfig.get_build_info()
nccl = importlib.util.find_spec("nvidia.nccl") if importlib.util.find_spec("nvidia") else None
print(json.dumps({
    "version": tf.__version__,
    "flags": tf.sysconfig.get_compile_flags(),
    "cuda": str(build.get("cuda_version", "unknown")) if build.get("is_cuda_build") else "",
    "gpus": len(tf.config.list_physical_devices("GPU")),
    "nccl": list(nccl.submodule_search_locations)[0] if nccl else "",
}))
"""

# Vector instructions that Horovod's own build asks the compiler for where the processor has them.
_VECTOR_FLAGS = ("f16c", "avx", "fma")


@dataclass(frozen=True)
class Mpi:
    """A compiler wrapper of MPI, and what it adds to a command: that tells one MPI from another."""

    wrapper: str
    adds: str


@dataclass(frozen=True)
class Cuda:
    """A CUDA toolkit: the folder that holds ``bin/nvcc``, and its release, as ``12.5``."""

    home: Path
    release: str


@dataclass(frozen=True)
class Machine:
    """What was found.

    ``tensorflow_cuda`` is the CUDA release that TensorFlow was built for, empty for a build
    without.  ``gpus`` are those that TensorFlow sees.  ``abi`` says which C++ strings TensorFlow
    has.  ``platform`` is the system with its C library.  ``nccl`` is a folder that holds
    ``include`` and ``lib``.
    """

    tensorflow: str
    tensorflow_cuda: str
    gpus: int
    abi: str
    python: str
    platform: str
    vector_flags: tuple[str, ...]
    site_packages: Path
    compiler: str | None
    mpi: Mpi | None = None
    cuda: Cuda | None = None
    nccl: Path | None = None


def look(
    environment: Mapping[str, str], cuda_home: Path | None = None, nccl_home: Path | None = None
) -> Machine:
    """Looks around; ``cuda_home`` and ``nccl_home`` are taken instead of searching for them.

    Raises:
        EnvironmentNotAble: there is no TensorFlow, or a named folder does not hold what it should.
    """
    told = _ask_tensorflow(environment)
    abi = next((flag[-1] for flag in told["flags"] if "_GLIBCXX_USE_CXX11_ABI=" in flag), "1")
    return Machine(
        tensorflow=told["version"],
        tensorflow_cuda=told["cuda"],
        gpus=told["gpus"],
        abi=f"abi{abi}",
        python=f"cp{sys.version_info[0]}{sys.version_info[1]}",
        platform="-".join((sysconfig.get_platform(), *platform.libc_ver())),
        vector_flags=_vector_flags(),
        site_packages=Path(sysconfig.get_path("platlib")),
        compiler=_find_compiler(environment),
        mpi=_find_mpi(environment),
        cuda=_find_cuda(environment, cuda_home),
        nccl=_find_nccl(environment, nccl_home, told["nccl"]),
    )


def run_quietly(
    command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs a command in an empty folder, where no folder of the user's can pass for a module.

    A command that is not there or does not end gives a return code like any that fails.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        try:
            return subprocess.run(  # noqa: S603 - a list, no shell
                command,
                cwd=nowhere,
                env=dict(environment),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LONGEST_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 127, "", str(error))


def _ask_tensorflow(environment: Mapping[str, str]) -> dict[str, Any]:
    quiet = {**environment, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = run_quietly([sys.executable, "-c", _ASK_TENSORFLOW], quiet)
    if done.returncode:
        raise EnvironmentNotAble(
            "Horovod is built for the installed TensorFlow, and none can be imported",
            got=(done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1],
            allowed="a Python in which `import tensorflow` works",
            action="pip install 'harness[train]'",
        )
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def _vector_flags() -> tuple[str, ...]:
    """Those of this processor, for the compiler; none where the system does not tell."""
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return ()
    has = set(found[1].split()) if found else set()
    return tuple(f"-m{name}" for name in _VECTOR_FLAGS if name in has)


def _find_compiler(environment: Mapping[str, str]) -> str | None:
    """The C++ compiler that CMake will take."""
    asked = environment.get("CXX")
    for name in [asked.split()[0]] if asked and asked.strip() else ["c++", "g++", "clang++"]:
        found = shutil.which(name, path=environment.get("PATH"))
        if found:
            return found
    return None


def _find_mpi(environment: Mapping[str, str]) -> Mpi | None:
    for name in ("mpicxx", "mpic++", "mpiCC"):
        wrapper = shutil.which(name, path=environment.get("PATH"))
        if wrapper:
            # -show is understood by Open MPI, MPICH and those made from it.
            done = run_quietly([wrapper, "-show"], environment)
            if done.returncode == 0:
                return Mpi(wrapper, done.stdout.strip())
    return None


def _find_cuda(environment: Mapping[str, str], asked: Path | None) -> Cuda | None:
    homes = [asked] if asked else _cuda_homes(environment)
    for home in homes:
        done = run_quietly([str(home / "bin" / "nvcc"), "--version"], environment)
        release = re.search(r"release (\d+\.\d+)", done.stdout)
        if release and (home / "include" / "cuda_runtime.h").is_file():
            return Cuda(home, release[1])
    if asked:
        raise EnvironmentNotAble(
            "--cuda-home names no CUDA toolkit",
            got=str(asked),
            allowed="a folder with bin/nvcc that runs and include/cuda_runtime.h",
            action="load the site's CUDA module, and name its folder",
        )
    return None


def _cuda_homes(environment: Mapping[str, str]) -> Iterator[Path]:
    """Where a toolkit may be: what variables say, nvcc's own word, the usual place."""
    for name in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"):
        if environment.get(name):
            yield Path(environment[name])
    # Not by the place of nvcc: on many systems that is a link or a small script.
    done = run_quietly(["nvcc", "--dryrun", "-x", "cu", "/dev/null"], environment)
    top = re.search(r"^#\$ TOP=(.+)$", done.stdout + done.stderr, re.MULTILINE)
    if top:
        yield Path(top[1].strip()).resolve()
    yield Path("/usr/local/cuda")


def _find_nccl(environment: Mapping[str, str], asked: Path | None, wheel: str) -> Path | None:
    """A folder with NCCL's header and library: the asked one, TensorFlow's own, a module's."""
    named = [Path(environment["NCCL_HOME"])] if environment.get("NCCL_HOME") else []
    homes = [asked] if asked else ([Path(wheel)] if wheel else []) + named
    for home in homes:
        if (home / "include" / "nccl.h").is_file() and nccl_library(home) is not None:
            return home
    if asked:
        raise EnvironmentNotAble(
            "--nccl-home names no NCCL",
            got=str(asked),
            allowed="a folder with include/nccl.h and lib/libnccl.so",
            action="pip install 'tensorflow[and-cuda]', which brings one, and leave it out",
        )
    return None


def nccl_library(home: Path) -> Path | None:
    """NCCL's shared library below a folder; the wheel has only the one with the version."""
    for folder in ("lib", "lib64"):
        for name in ("libnccl.so", "libnccl.so.2"):
            if (home / folder / name).exists():
                return home / folder / name
    return None
