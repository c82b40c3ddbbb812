"""From ``cluster.strategy``, ``cluster.device`` and the topology to a distribution."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from harness.distribute.base import Distribution
from harness.distribute.single import SingleDevice
from harness.distribute.topology import Topology
from harness.errors import EnvironmentNotAble


class Choice(NamedTuple):
    """A distribution and, in words, why it is this one."""

    distribution: Distribution
    why: str


def choose(strategy: str, device: str, topology: Topology) -> Choice:
    """Picks the distribution for this process.

    Args:
        strategy: ``auto`` or ``single``.
        device: ``auto`` takes a GPU when TensorFlow sees one, ``gpu`` insists on it,
            ``cpu`` hides the GPUs.

    Raises:
        EnvironmentNotAble: several ranks were started, or a GPU is asked for and none is seen.
    """
    if topology.size > 1:
        raise EnvironmentNotAble(
            "several ranks are not supported yet",
            got=f"{topology.size} ranks by {topology.source}",
            allowed="one process",
            action="start one process (srun --ntasks=1, or no launcher)",
        )
    gpus = [] if device == "cpu" else tf.config.list_physical_devices("GPU")
    if device == "cpu":
        # Must come before TensorFlow touches a device, else it raises.
        tf.config.set_visible_devices([], "GPU")
    if device == "gpu" and not gpus:
        raise EnvironmentNotAble(
            "cluster.device is gpu and TensorFlow sees no GPU",
            got=_why_no_gpu(),
            allowed="gpu where TensorFlow sees one, else cpu or auto",
            action="check nvidia-smi and CUDA_VISIBLE_DEVICES, or set cluster.device: cpu",
        )
    for gpu in gpus:
        # Without growth TensorFlow takes a whole GPU that others on the node may share.
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        return Choice(SingleDevice("/CPU:0", topology), "one process, no GPU in use")
    why = "one process, one GPU"
    if len(gpus) > 1:
        why = f"one process; the first of {len(gpus)} GPUs is used, strategies for more come later"
    return Choice(SingleDevice("/GPU:0", topology), f"{why} (strategy: {strategy})")


def _why_no_gpu() -> str:
    import os

    if not tf.test.is_built_with_cuda():
        return "a TensorFlow that was built without CUDA"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1", "NoDevFiles"):
        return f"CUDA_VISIBLE_DEVICES={hidden!r}, which hides every GPU"
    return "a TensorFlow with CUDA and no usable device (driver or CUDA libraries missing?)"
