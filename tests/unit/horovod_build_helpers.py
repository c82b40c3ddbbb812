"""A machine with GPUs to build Horovod on, and its sources."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from harness.launch import horovod_options as opts
from harness.launch.horovod_machine import Cuda, Machine, Mpi

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


def label(machine: Machine, environment: dict[str, str] | None = None, **more: Any) -> str:
    return opts.version_label(machine, opts.choose_options(machine, **more), environment or {})
