"""With what Horovod is built on this machine, and the name under which the result is kept.

Pure: what was asked and what was found in, options, a version label and variables out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EnvironmentNotAble, UsageError
from harness.launch.horovod_machine import Cuda, Machine, nccl_library

HOROVOD = "0.28.1"
SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
"""Of the release's source package."""

PARTS = ("gloo", "mpi", "nccl")
"""What ``--with`` may name.  Gloo needs nothing and is always built."""

_RECIPE = 2
"""Counts the changes of patches and build variables: a wheel of an older recipe is not taken."""

# Variables of the shell that change what a compiler makes.
_COMPILER_VARIABLES = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")


@dataclass(frozen=True)
class Options:
    """What is built in.  ``why`` has a line for each choice; ``nccl`` and ``cuda`` go together."""

    mpi: str | None
    cuda: Cuda | None
    nccl: Path | None
    architectures: tuple[int, ...]
    why: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Of :data:`PARTS`, those that are built."""
        has = {"gloo": True, "mpi": self.mpi is not None, "nccl": self.nccl is not None}
        return tuple(part for part in PARTS if has[part])


def choose_options(
    machine: Machine, asked: Sequence[str] = (), architectures: Sequence[int] = ()
) -> Options:
    """Everything that this machine can build, or exactly what was asked.

    Args:
        asked: of :data:`PARTS`; empty for everything.
        architectures: compute capabilities of GPUs, as 80; empty for all that nvcc knows.

    Raises:
        UsageError: a part that there is not, or architectures without NCCL.
        EnvironmentNotAble: an asked part cannot be built here, or there is no compiler.
    """
    _check(machine, asked)
    mpi, mpi_why = _choose_mpi(machine, asked)
    gpu, nccl_why = _choose_nccl(machine, asked)
    if architectures and not gpu:
        raise UsageError(
            "--cuda-arch is for a build with NCCL, and this is none",
            got=nccl_why,
            action="add --with nccl, or leave out --cuda-arch",
        )
    return Options(
        mpi=mpi,
        cuda=machine.cuda if gpu else None,
        nccl=machine.nccl if gpu else None,
        architectures=tuple(sorted(set(architectures))) if gpu else (),
        why=("gloo: always, it needs nothing", mpi_why, nccl_why),
    )


def _check(machine: Machine, asked: Sequence[str]) -> None:
    unknown = [part for part in asked if part not in PARTS]
    if unknown:
        raise UsageError(
            "--with names something that Horovod is not built with here",
            got=", ".join(unknown),
            allowed=", ".join(PARTS),
        )
    if machine.compiler is None:
        raise EnvironmentNotAble(
            "Horovod is compiled, and there is no C++ compiler",
            got="none of $CXX, c++, g++, clang++",
            allowed="a compiler that knows C++17",
            action="load the site's compiler module, or: apt install g++",
        )


def _choose_mpi(machine: Machine, asked: Sequence[str]) -> tuple[str | None, str]:
    if asked and "mpi" not in asked:
        return None, "no mpi: not asked for"
    if machine.mpi is not None:
        return machine.mpi.adds, f"mpi: {machine.mpi.wrapper}"
    if not asked:
        return None, "no mpi: no mpicxx on the PATH"
    raise EnvironmentNotAble(
        "Horovod was to be built with MPI, and there is none",
        got="no mpicxx that works on the PATH",
        action="load the site's MPI module, or: apt install libopenmpi-dev openmpi-bin",
    )


def _choose_nccl(machine: Machine, asked: Sequence[str]) -> tuple[bool, str]:
    if asked and "nccl" not in asked:
        return False, "no nccl: not asked for"
    lacking = _lacking_for_nccl(machine)
    if lacking is None and machine.cuda is not None:
        return True, f"nccl: {machine.nccl}, CUDA {machine.cuda.release} of {machine.cuda.home}"
    if not asked:
        return False, f"no nccl: {lacking}"
    raise EnvironmentNotAble(
        "Horovod was to be built with NCCL, and something is missing",
        got=lacking,
        allowed="a TensorFlow for CUDA, NCCL's header and library, and nvcc with its headers",
        action="pip install 'tensorflow[and-cuda]', load the site's CUDA module or give "
        "--cuda-home, and see docs/horovod.md",
    )


def _lacking_for_nccl(machine: Machine) -> str | None:
    if not machine.tensorflow_cuda:
        return "the installed TensorFlow was built without CUDA"
    if machine.nccl is None:
        return "no NCCL (neither the package nvidia-nccl nor $NCCL_HOME)"
    if machine.cuda is None:
        return "no CUDA toolkit (neither $CUDA_HOME nor nvcc)"
    return None


def version_label(machine: Machine, options: Options, environment: Mapping[str, str]) -> str:
    """The version of the wheel: ``0.28.1+tf2.21.0.gloo.mpi.k1a2b3c4d``.

    What is before the plus is Horovod's.  What is after it says what it was built for, and ends
    in a digest of all that changes the result, so one name stands for one build.
    """
    facts = {
        "recipe": _RECIPE,
        "python": machine.python,
        "platform": machine.platform,
        "abi": machine.abi,
        "vector": machine.vector_flags,
        "mpi": options.mpi,
        "cuda": str(options.cuda),
        "nccl": _place(machine, options),
        "architectures": options.architectures,
        "compiler": [environment.get(name) for name in _COMPILER_VARIABLES],
    }
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
    built_for = re.sub(r"[^a-z0-9]+", ".", machine.tensorflow.lower())
    # A part of a version that is all digits is a number, and would lose its zeros: hence the k.
    return f"{HOROVOD}+tf{built_for}.{'.'.join(options.parts)}.k{digest}"


def build_variables(
    machine: Machine,
    options: Options,
    environment: Mapping[str, str],
    *,
    label: str,
    tools: Path,
    links: Path,
    jobs: int,
) -> dict[str, str]:
    """All variables for the build: the shell's without its ``HOROVOD_*``, and ours.

    Args:
        label: of :func:`version_label`.
        tools: folder of Python packages that the build needs; may be empty.
        links: folder with a ``libnccl.so``; read only with NCCL.
        jobs: compilers at a time.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("HOROVOD_") and name not in ("MAKEFLAGS", "CMAKE_GENERATOR")
    }
    ours = {
        "HOROVOD_LOCAL_VERSION": label.partition("+")[2],
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITH_MPI" if options.mpi is not None else "HOROVOD_WITHOUT_MPI": "1",
        "HOROVOD_BUILD_ARCH_FLAGS": " ".join(machine.vector_flags),
        # Newer CMakes refuse what the bundled Gloo says of the oldest that it works with.
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        "MAKEFLAGS": f"-j{jobs}",
        "PATH": _joined(tools / "bin", kept.get("PATH", os.defpath)),
        "PYTHONPATH": _joined(tools, kept.get("PYTHONPATH")),
        # Of somebody's pip settings, the one that our own arguments contradict.
        "PIP_USER": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    kept.update(ours)
    return kept | _gpu_variables(machine, options, kept, links)


def _gpu_variables(
    machine: Machine, options: Options, before: Mapping[str, str], links: Path
) -> dict[str, str]:
    if options.cuda is None or options.nccl is None:
        return {}
    architectures = ",".join(map(str, options.architectures))
    return {
        "HOROVOD_GPU_OPERATIONS": "NCCL",
        "HOROVOD_CUDA_HOME": str(options.cuda.home),
        "HOROVOD_NCCL_HOME": str(options.nccl),
        "HOROVOD_NCCL_INCLUDE": str(options.nccl / "include"),
        "HOROVOD_NCCL_LIB": str(links),
        "HOROVOD_NCCL_LINK": "SHARED",
        # Where the library is searched for when Horovod is loaded.
        "LDFLAGS": f"{before.get('LDFLAGS', '')} -Wl,-rpath,{_place(machine, options)}".strip(),
        # CMake does not write into the result where the compiler searches by itself.
        "LIBRARY_PATH": _joined(links, before.get("LIBRARY_PATH")),
        **({"HOROVOD_BUILD_CUDA_CC_LIST": architectures} if architectures else {}),
    }


def _joined(first: Path, rest: str | None) -> str:
    return os.pathsep.join(filter(None, [str(first), rest]))


def _place(machine: Machine, options: Options) -> str | None:
    """The folder of NCCL's library, seen from Horovod's where both are in site-packages.

    So the wheel does not name a folder of this machine, and fits another environment.
    """
    library = nccl_library(options.nccl) if options.nccl is not None else None
    if library is None:
        return None
    site = machine.site_packages
    if library.is_relative_to(site):
        return f"$ORIGIN/../../{library.parent.relative_to(site)}"
    return str(library.parent)
