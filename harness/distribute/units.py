"""What a machine has to compute in 16 bits with, and whether a precision gains anything there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import EnvironmentNotAble
from harness.spec.models_cluster import Cluster

BF16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
"""Words of ``/proc/cpuinfo`` for units that multiply bfloat16: two of x86, one of ARM."""
FLOAT16_SINCE = (7, 0)
"""Compute capability of the first NVIDIA GPUs with tensor cores (Volta); TensorFlow rewrites
nothing to float16 for older ones."""
PRECISIONS = ("mixed_float16", "mixed_bfloat16")


def check_kind(precision: str, kind: str) -> None:
    """Holds a precision against the kind of device that computes, ``CPU`` or ``GPU``.

    Raises:
        EnvironmentNotAble: TensorFlow does not compute in it there.
    """
    wanted = {"mixed_float16": "GPU", "mixed_bfloat16": "CPU"}.get(precision, kind)
    if kind != wanted:
        other = "mixed_float16" if kind == "GPU" else "mixed_bfloat16"
        raise EnvironmentNotAble(
            f"TensorFlow computes in {precision} on {wanted}s only",
            got=f"a run on the {kind}",
            allowed=f"float32 or {other} on the {kind}",
            action=f"set training.precision: {other} or float32",
            path="training.precision",
        )


def asked_kind(cluster: Cluster) -> str | None:
    """What a spec asks to compute on, ``CPU`` or ``GPU``; None where only the machine tells."""
    if cluster.device == "cpu":
        return "CPU"
    return "GPU" if cluster.device == "gpu" or cluster.gpus_per_node else None


def flags_of(cpuinfo: str) -> frozenset[str]:
    """The words for what a processor can do, from the text of ``/proc/cpuinfo``."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return frozenset(
        flag
        for name, _, words in lines
        if name.strip() in ("flags", "Features")
        for flag in words.split()
    )


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The words of this machine; none where they cannot be read."""
    try:
        return flags_of(path.read_text())
    except OSError:
        return frozenset()


def no_gain(
    precision: str, flags: frozenset[str], capabilities: Sequence[tuple[int, int] | None]
) -> str | None:
    """Why a precision gains nothing on a machine, in words; None where it may.

    Args:
        precision: of the spec.
        flags: of the processor, see :func:`flags_of`.
        capabilities: compute capability of each GPU that is used (None: not known); empty where
            the CPU computes.
    """
    if precision == "float32":
        return None
    if precision == "mixed_float16":
        if not capabilities:
            return "the CPU computes, and mixed_float16 is for GPUs"
        old = [each for each in capabilities if each is not None and each < FLOAT16_SINCE]
        shown = ", ".join(f"{major}.{minor}" for major, minor in sorted(set(old)))
        least = ".".join(map(str, FLOAT16_SINCE))
        return (
            f"a GPU of compute capability {shown} has no tensor cores (from {least} on)"
            if old
            else None
        )
    if capabilities:
        return "TensorFlow computes in bfloat16 on CPUs only"
    if flags.isdisjoint(BF16_FLAGS):
        return (
            f"this CPU has no units for bfloat16 ({', '.join(BF16_FLAGS)}): it converts, and "
            "is slower for it"
        )
    return None
