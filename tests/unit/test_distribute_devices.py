"""Whose GPUs are whose, and what is said where TensorFlow sees none; over a made-up driver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rights import lacking

from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble

pytest.importorskip("tensorflow")

from harness.distribute import devices
from harness.distribute.devices import mine
from harness.worker.links import shared_gpus


def place(local_rank: int, local_size: int, node: int = 0, nodes: int = 1) -> Topology:
    rank = node * local_size + local_rank
    return Topology(rank, nodes * local_size, "srun", local_rank, local_size, node, nodes)


@pytest.mark.parametrize(
    ("seen", "local_rank", "local_size", "each", "wanted"),
    [
        ("abcd", 0, 4, 1, "a"),
        ("abcd", 3, 4, 1, "d"),
        ("abcd", 1, 2, 2, "cd"),
        ("abcd", 1, 2, 1, "b"),
        ("abcd", 0, 1, 4, "abcd"),
        ("abcd", 0, 1, 1, "a"),
        # The launcher has shared them out: each rank sees its own only.
        ("a", 0, 4, 1, "a"),
        ("a", 3, 4, 1, "a"),
        ("ab", 1, 2, 2, "ab"),
    ],
)
def test_the_gpus_of_a_rank(
    seen: str, local_rank: int, local_size: int, each: int, wanted: str
) -> None:
    assert "".join(mine(seen, place(local_rank, local_size), each)) == wanted


@pytest.mark.parametrize(
    ("seen", "local_size", "each", "got"),
    [
        ("ab", 3, 1, "2 GPUs for 3 ranks"),
        ("", 2, 1, "0 GPUs for 2 ranks"),
        ("a", 2, 2, "1 GPU for 2 ranks"),
        ("abc", 2, 2, "3 GPUs for 2 ranks"),
    ],
)
def test_too_few_gpus_for_the_ranks_of_a_node(
    seen: str, local_size: int, each: int, got: str
) -> None:
    with pytest.raises(EnvironmentNotAble, match=rf"{got}.*{each} for each rank") as raised:
        mine(seen, place(0, local_size), each)
    assert raised.value.exit_code == 3


@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 5))
def test_ranks_that_see_all_share_no_gpu(local_size: int, each: int, spare: int) -> None:
    seen = range(local_size * each + spare)
    taken = [list(mine(seen, place(rank, local_size), each)) for rank in range(local_size)]
    assert {len(own) for own in taken} == {each}
    assert [gpu for own in taken for gpu in own] == list(range(local_size * each))


@pytest.mark.parametrize(
    ("of_ranks", "wanted"),
    [
        ([], []),
        ([(0, []), (0, [])], []),
        ([(0, ["a"]), (0, ["b"]), (1, ["a"]), (1, ["b"])], []),
        ([(0, ["a"]), (0, ["a"])], ["GPU a of node 0: ranks 0, 1"]),
        ([(0, ["a", "b"]), (0, ["c"]), (0, ["b"])], ["GPU b of node 0: ranks 0, 2"]),
        (
            [(0, ["a"]), (1, ["a"]), (1, ["a"]), (0, ["a"])],
            ["GPU a of node 0: ranks 0, 3", "GPU a of node 1: ranks 1, 2"],
        ),
    ],
)
def test_shared_gpus(of_ranks: list[tuple[int, list[str]]], wanted: list[str]) -> None:
    assert shared_gpus(of_ranks) == wanted


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_gpus_that_were_shared_out_well_are_no_error(nodes: int, ranks: int, each: int) -> None:
    bus = [f"0000:{number:02X}:00.0" for number in range(ranks * each)]
    pairs = [
        (node, list(mine(bus, place(rank, ranks, node, nodes), each)))
        for node in range(nodes)
        for rank in range(ranks)
    ]
    assert shared_gpus(pairs) == []


# A driver of GPUs that are not there.

DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}
int cuInit(unsigned flags) { return number("FAKE_INIT", 0); }
int cuDeviceGetCount(int *count) { *count = number("FAKE_COUNT", 0); return number("FAKE_BAD", 0); }
int cuDeviceGetPCIBusId(char *text, int length, int device) {
    if (device == number("FAKE_HIDDEN", -1)) return 100;
    snprintf(text, length, "0000:%02X:00.0", 16 * device + 10);
    return 0;
}
"""

ASK = """
import json, os, shutil, sys
from harness.distribute import devices
for case in json.loads(sys.argv[1]):
    if os.fork() == 0:  # asks with variables of its own, in a process that has imported all
        for name in devices._cuda_libraries()[: case.pop("libraries", 0)]:
            shutil.copy(sys.argv[2] + "/libcuda.so.1", f"{sys.argv[2]}/{name}")
        os.environ.update(case)
        said = json.dumps([devices.gpu_ids(), devices.why_no_gpu()])
        os.write(1, said.encode() + b"\\n")
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 that says what FAKE_* variables tell it."""
    if shutil.which("gcc") is None:
        lacking("there is no C compiler: apt-get install gcc")
    folder = tmp_path_factory.mktemp("driver")
    source = folder / "driver.c"
    source.write_text(DRIVER)
    library = folder / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return folder


def ask(folder: Path, *cases: dict[str, Any]) -> list[Any]:
    """What a process says whose libraries are those of ``folder``, in each of the cases."""
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(cases), str(folder)],
        env={**environment, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


BUS = ["0000:0A:00.0", "0000:1A:00.0", "0000:2A:00.0"]


def test_bus_ids_and_reasons(driver: Path) -> None:
    import tensorflow as tf

    cases: list[tuple[dict[str, Any], list[str], str]] = [
        ({"FAKE_COUNT": "3"}, BUS, "CUDA libraries that TensorFlow cannot load (libcudart.so.1"),
        ({"FAKE_COUNT": "3", "FAKE_HIDDEN": "1"}, [BUS[0], BUS[2]], "CUDA libraries"),
        ({"FAKE_COUNT": "0"}, [], "CUDA libraries"),
        ({"FAKE_COUNT": "3", "FAKE_BAD": "1"}, [], "CUDA libraries"),
        ({"FAKE_COUNT": "3", "FAKE_INIT": "100"}, [], "no usable GPU (cuInit says 100)"),
        ({"FAKE_COUNT": "1", "CUDA_VISIBLE_DEVICES": ""}, BUS[:1], "CUDA_VISIBLE_DEVICES='', "),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, [], "CUDA_VISIBLE_DEVICES='-1', which hides every GPU"),
        ({"CUDA_VISIBLE_DEVICES": " NoDevFiles"}, [], "which hides every GPU"),
        ({"CUDA_VISIBLE_DEVICES": "0", "FAKE_INIT": "3"}, [], "cuInit says 3"),
        ({"libraries": 2}, [], "cannot load (libcudnn.so."),
        ({"libraries": 3}, [], "that this TensorFlow cannot use"),
    ]
    answers = ask(driver, *(case for case, _, _ in cases))
    assert len(answers) == len(cases)
    for (case, ids, why), (got_ids, got_why) in zip(cases, answers, strict=True):
        assert got_ids == ids, case
        if tf.test.is_built_with_cuda():
            assert why in got_why, case
        else:
            assert "without CUDA" in got_why


def test_no_driver() -> None:
    import ctypes

    import tensorflow as tf

    from harness.distribute.devices import gpu_ids, why_no_gpu

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        assert gpu_ids() == []
        if tf.test.is_built_with_cuda() and "CUDA_VISIBLE_DEVICES" not in os.environ:
            assert "no NVIDIA driver on this node" in why_no_gpu()


def used_already(*of: Any) -> None:
    raise RuntimeError("Physical devices cannot be modified after being initialized")


def test_gpus_that_a_process_has_used_are_used_on_but_neither_hidden_nor_shared_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What TensorFlow raises then was seen on a GPU; here its two functions are made to."""
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: ["a", "b"])
    monkeypatch.setattr(devices.tf.config, "set_visible_devices", used_already)
    monkeypatch.setattr(devices.tf.config.experimental, "set_memory_growth", used_already)
    assert devices.gpus("gpu", 0, place(0, 1), None) == ["/GPU:0", "/GPU:1"]
    for call in (devices.hide_gpus, lambda: devices.gpus("gpu", 0, place(0, 2), None)):
        with pytest.raises(EnvironmentNotAble, match="has used its devices already") as error:
            call()
        assert "in a process of its own" in str(error.value)
