"""Building Horovod: the name of a build, and its variables."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.launch import horovod_options as opts
from harness.launch.horovod_machine import Cuda, Machine, Mpi
from tests.unit.horovod_build_helpers import CPU, gpu, label

__all__ = ["gpu"]  # a fixture, found by its name


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
