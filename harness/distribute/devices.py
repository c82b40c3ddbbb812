"""Which devices this process computes on, and why TensorFlow sees no GPU."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import tensorflow as tf

from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble

_T = TypeVar("_T")


def mine(seen: Sequence[_T], topology: Topology, each: int) -> Sequence[_T]:
    """The GPUs of this rank among those that it sees.

    Where a rank sees the GPUs of all ranks of its node, it takes ``each`` of them by its local
    rank.  Where it sees ``each`` of them, the launcher has shared them out (``--gpus-per-task``).

    Raises:
        EnvironmentNotAble: there are not enough for the ranks of this node.
    """
    if len(seen) >= each * topology.local_size:
        return seen[topology.local_rank * each : (topology.local_rank + 1) * each]
    if len(seen) == each:
        return seen
    raise EnvironmentNotAble(
        "there are fewer GPUs than the ranks of this node need",
        got=f"{len(seen)} GPU{'' if len(seen) == 1 else 's'} for {topology.local_size} ranks",
        allowed=f"{each} for each rank, which no other rank uses",
        action="set cluster.gpus_per_node to the ranks of a node, or lower cluster.ranks_per_node",
    )


def cpus(count: int) -> list[str]:
    """Names of the CPU as ``count`` logical devices; the GPUs are hidden.

    Raises:
        EnvironmentNotAble: TensorFlow has used its devices already.
    """
    hide_gpus()
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    made = tf.config.get_logical_device_configuration(cpu)
    if len(made or [None]) != count:
        one = tf.config.LogicalDeviceConfiguration()
        with _not_used_yet():
            tf.config.set_logical_device_configuration(cpu, [one] * count)
    return [f"/CPU:{number}" for number in range(count)]


def hide_gpus() -> None:
    """Has this process compute on the CPU alone.

    Raises:
        EnvironmentNotAble: TensorFlow has used a GPU already.
    """
    with _not_used_yet():
        tf.config.set_visible_devices([], "GPU")


@contextlib.contextmanager
def _not_used_yet() -> Iterator[None]:
    """Says what it means where TensorFlow refuses to share devices out once it has used them."""
    try:
        yield
    except RuntimeError as error:
        raise EnvironmentNotAble(
            "this process has used its devices already and cannot share them out anew",
            got=str(error),
            action="run it in a process of its own (harness run)",
        ) from None


def gpus(device: str, asked: int, topology: Topology, each: int | None) -> list[str]:
    """Names of the GPUs of this rank, none where the CPU will do.

    Args:
        device: ``auto`` or ``gpu``, which insists on GPUs.
        asked: GPUs that this rank was to get.
        each: GPUs that a rank takes where nobody has asked for a number; None is its fair share.

    Raises:
        EnvironmentNotAble: they are not there.
    """
    seen = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not seen:
        raise EnvironmentNotAble(
            "cluster.device is gpu and TensorFlow sees no GPU",
            got=why_no_gpu(),
            allowed="gpu where TensorFlow sees one, else cpu or auto",
            action="check nvidia-smi and CUDA_VISIBLE_DEVICES, or set cluster.device: cpu",
        )
    if len(seen) < asked:
        raise EnvironmentNotAble(
            "there are fewer GPUs than cluster.gpus_per_node asks for",
            got=f"{len(seen)} of {asked}" + ("" if seen else f": {why_no_gpu()}"),
            action="check nvidia-smi and CUDA_VISIBLE_DEVICES, or set cluster.device: cpu",
        )
    if seen and topology.size > 1:
        count = asked or each or max(1, len(seen) // topology.local_size)
        seen = list(mine(seen, topology, count))
        with _not_used_yet():
            tf.config.set_visible_devices(seen, "GPU")
    for gpu in seen:
        _grow(gpu)
    return [f"/GPU:{number}" for number in range(len(seen))]


def _grow(gpu: tf.config.PhysicalDevice) -> None:
    """Without growth TensorFlow takes a whole GPU, which others on the node may share."""
    # Of a process that has used the GPU before (a notebook), the memory is taken by now, and a run
    # in it has room enough: no reason to refuse it.
    with contextlib.suppress(RuntimeError):
        tf.config.experimental.set_memory_growth(gpu, True)


def why_no_gpu() -> str:
    """The likely reason, in words, that TensorFlow sees no GPU in this process."""
    if not tf.test.is_built_with_cuda():
        return "a TensorFlow that was built without CUDA"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1", "NoDevFiles"):
        return f"CUDA_VISIBLE_DEVICES={hidden!r}, which hides every GPU"
    driver = _loaded("libcuda.so.1")
    if driver is None:
        return "no NVIDIA driver on this node (libcuda.so.1 is not there)"
    code = int(driver.cuInit(0))
    if code != 0:
        return f"an NVIDIA driver that finds no usable GPU (cuInit says {code})"
    missing = [name for name in _cuda_libraries() if _loaded(name) is None]
    if missing:
        return f"CUDA libraries that TensorFlow cannot load ({', '.join(missing)})"
    return "a GPU and a driver that this TensorFlow cannot use (its log says why)"


def _cuda_libraries() -> list[str]:
    build = tf.sysconfig.get_build_info()
    cuda = str(build.get("cuda_version", "12")).split(".")[0]
    cudnn = str(build.get("cudnn_version", "9")).split(".")[0]
    return [f"libcudart.so.{cuda}", f"libcublas.so.{cuda}", f"libcudnn.so.{cudnn}"]


def _loaded(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def gpu_ids() -> list[str]:
    """PCI bus ids of the GPUs that this process sees, in CUDA's order, from the driver itself.

    Unlike an index they are the same in every process of a node, whatever each may see.  Empty
    without a driver.  Makes no context and does not need TensorFlow.
    """
    driver = _loaded("libcuda.so.1")
    count = ctypes.c_int(0)
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    ids = []
    for number in range(count.value):
        text = ctypes.create_string_buffer(32)
        if driver.cuDeviceGetPCIBusId(text, len(text), ctypes.c_int(number)) == 0:
            ids.append(text.value.decode())
    return ids
