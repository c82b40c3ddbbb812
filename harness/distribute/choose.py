"""From ``cluster.strategy``, ``cluster.device`` and the topology to a distribution."""

from __future__ import annotations

import os
from typing import NamedTuple

import tensorflow as tf

from harness.distribute.base import Distribution
from harness.distribute.mirrored import Mirrored
from harness.distribute.single import SingleDevice
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble


class Choice(NamedTuple):
    """A distribution and, in words, why it is this one."""

    distribution: Distribution
    why: str


def choose(
    strategy: str,
    device: str,
    topology: Topology,
    *,
    replicas: int | None = None,
    gpus: int | None = None,
) -> Choice:
    """Picks the distribution for this process.

    Args:
        strategy: ``auto``, ``single`` or ``mirrored``; auto mirrors where there are several GPUs.
        device: ``auto`` takes GPUs when TensorFlow sees some, ``gpu`` insists on them, ``cpu``
            hides them.
        replicas: devices that compute in this process; None is all that are seen.  With ``cpu``
            the cores are shared by so many logical devices.
        gpus: GPUs that this process was to get; fewer are an error, except with ``cpu``.

    Raises:
        EnvironmentNotAble: several ranks were started, or the devices are not there.
    """
    if topology.size > 1:
        raise EnvironmentNotAble(
            "several ranks are not supported yet",
            got=f"{topology.size} ranks by {topology.source}",
            allowed="one process",
            action="start one process (srun --ntasks=1, or no launcher)",
        )
    seen = _cpus(replicas or 1) if device == "cpu" else _gpus(device, gpus or 0)
    kind = "CPU" if device == "cpu" or not seen else "GPU"
    if not seen:
        seen = _cpus(replicas or 1)
    wanted = 1 if strategy == "single" and replicas is None else replicas or len(seen)
    _check_count(strategy, kind, wanted, len(seen))
    if wanted == 1:
        return Choice(SingleDevice(seen[0], topology), _why_one(kind, len(seen)))
    why = f"one process, {wanted} of {len(seen)} {kind}s mirrored (strategy: {strategy})"
    return Choice(Mirrored(seen[:wanted], topology), why)


def _check_count(strategy: str, kind: str, wanted: int, seen: int) -> None:
    """Holds the number of replicas against strategy and devices."""
    if wanted > seen:
        raise EnvironmentNotAble(
            f"there are fewer {kind}s than replicas",
            got=f"{seen} {kind}{'' if seen == 1 else 's'}",
            allowed=f"cluster.replicas_per_rank up to {seen}",
            action="ask for more GPUs with cluster.gpus_per_node, or lower replicas_per_rank",
        )
    if strategy == "mirrored" and wanted == 1:
        raise EnvironmentNotAble(
            "cluster.strategy is mirrored and there is one device to compute on",
            got=f"{seen} {kind}{'' if seen == 1 else 's'}",
            allowed="two devices or more",
            action="set cluster.gpus_per_node to 2 or more, or cluster.strategy: single",
        )
    if strategy == "single" and wanted > 1:
        raise EnvironmentNotAble(
            "cluster.strategy is single, which computes on one device",
            got=f"cluster.replicas_per_rank: {wanted}",
            action="set cluster.strategy: mirrored, or leave out replicas_per_rank",
        )


def _why_one(kind: str, seen: int) -> str:
    if kind == "CPU":
        return "one process, no GPU in use"
    return "one process, one GPU" if seen == 1 else f"one process, the first of {seen} GPUs"


def _cpus(count: int) -> list[str]:
    """Names of the CPU as ``count`` logical devices; the GPUs are hidden."""
    # Must come before TensorFlow touches a device, else it raises.
    tf.config.set_visible_devices([], "GPU")
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    made = tf.config.get_logical_device_configuration(cpu)
    if len(made or [None]) != count:
        one = tf.config.LogicalDeviceConfiguration()
        try:
            tf.config.set_logical_device_configuration(cpu, [one] * count)
        except RuntimeError as error:
            raise EnvironmentNotAble(
                "this process has used its devices already and cannot share them out anew",
                got=str(error),
                action="run it in a process of its own (harness run)",
            ) from None
    return [f"/CPU:{number}" for number in range(count)]


def _gpus(device: str, asked: int) -> list[str]:
    """Names of the GPUs that TensorFlow sees, none where the CPU will do."""
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise EnvironmentNotAble(
            "cluster.device is gpu and TensorFlow sees no GPU",
            got=_why_no_gpu(),
            allowed="gpu where TensorFlow sees one, else cpu or auto",
            action="check nvidia-smi and CUDA_VISIBLE_DEVICES, or set cluster.device: cpu",
        )
    if len(gpus) < asked:
        raise EnvironmentNotAble(
            "there are fewer GPUs than cluster.gpus_per_node asks for",
            got=f"{len(gpus)} of {asked}" + ("" if gpus else f": {_why_no_gpu()}"),
            action="check nvidia-smi and CUDA_VISIBLE_DEVICES, or set cluster.device: cpu",
        )
    for gpu in gpus:
        # Without growth TensorFlow takes a whole GPU that others on the node may share.
        tf.config.experimental.set_memory_growth(gpu, True)
    return [f"/GPU:{number}" for number in range(len(gpus))]


def _why_no_gpu() -> str:
    if not tf.test.is_built_with_cuda():
        return "a TensorFlow that was built without CUDA"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1", "NoDevFiles"):
        return f"CUDA_VISIBLE_DEVICES={hidden!r}, which hides every GPU"
    return "a TensorFlow with CUDA and no usable device (driver or CUDA libraries missing?)"
