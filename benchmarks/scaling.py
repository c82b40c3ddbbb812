"""Step time and efficiency of many devices, worked out from figures of one.

    python benchmarks/scaling.py --compute-ms 120 --gradient-mb 102

Weak scaling: every device has the same batch, whatever their number.  A model, not a measurement;
docs/scaling.md says what it assumes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

BUCKET_MB = 32.0
"""As :data:`harness.distribute.buckets.BUCKET_BYTES`."""
_BACKWARD = 2 / 3
"""Share of a step's arithmetic in the backward pass: two products for each of the forward pass."""


@dataclass(frozen=True)
class Network:
    """What connects the devices.

    Bandwidths are GB/s (1e9 bytes) in one direction: within a node for each device, between nodes
    for each node, shared by its devices.  Latencies are microseconds of one message.
    """

    within_gb_s: float = 200.0
    within_us: float = 5.0
    between_gb_s: float = 25.0
    between_us: float = 10.0
    per_node: int = 8


def allreduce_s(size_mb: float, devices: int, network: Network) -> float:
    """Seconds of one sum of ``size_mb`` over ``devices``.

    In each node a ring, between the nodes the better of a ring and a double binary tree.  The ring
    takes 2(n-1) messages of 1/n of the data each (Patarasuk and Yuan, 2009); the tree sends all of
    it up and down, in 2 log2(n) messages' latency (Sanders, Speck and Traeff, 2009).
    """
    size = size_mb * 1e6
    here = min(devices, network.per_node)
    nodes = math.ceil(devices / network.per_node)
    within = 2 * (here - 1) * (size / here / (network.within_gb_s * 1e9) + network.within_us * 1e-6)
    if nodes == 1:
        return within
    wire, latency = size / (network.between_gb_s * 1e9), network.between_us * 1e-6
    ring = 2 * (nodes - 1) * (wire / nodes + latency)
    tree = 2 * wire + 2 * math.ceil(math.log2(nodes)) * latency
    return within + min(ring, tree)


def step_s(
    compute_s: float, gradient_mb: float, devices: int, network: Network, jitter: float = 0.0
) -> float:
    """Seconds of a step of ``devices`` devices.

    Buckets are summed one after the other while the backward pass goes on; each may begin once its
    gradients are there, which come evenly over the backward pass.  Where step times scatter by
    ``jitter`` (standard deviation over mean) all devices wait for the slowest, which of n is on
    average about sqrt(2 ln n) standard deviations above the mean.
    """
    compute_s *= 1 + jitter * math.sqrt(2 * math.log(devices))
    if devices == 1:
        return compute_s
    begun, done = compute_s * (1 - _BACKWARD), 0.0
    sent_mb = 0.0
    while sent_mb < gradient_mb:
        bucket = min(BUCKET_MB, gradient_mb - sent_mb)
        sent_mb += bucket
        ready = begun + compute_s * _BACKWARD * sent_mb / gradient_mb
        done = max(done, ready) + allreduce_s(bucket, devices, network)
    return max(done, compute_s)


def rows(
    compute_s: float,
    gradient_mb: float,
    network: Network,
    jitter: float,
    counts: Sequence[int] = tuple(1 << power for power in range(11)),
) -> list[tuple[int, float, float]]:
    """Devices, seconds of a step, and efficiency: the step of one device over theirs."""
    alone = step_s(compute_s, gradient_mb, 1, network)
    times = [step_s(compute_s, gradient_mb, count, network, jitter) for count in counts]
    return [(count, time, alone / time) for count, time in zip(counts, times, strict=True)]


def table(lines: Sequence[tuple[int, float, float]]) -> str:
    """The rows as a table of Markdown."""
    out = ["| GPUs | step, ms | efficiency |", "|---:|---:|---:|"]
    out += [f"| {count:,} | {time * 1e3:.1f} | {share:.1%} |" for count, time, share in lines]
    return "\n".join(out)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table for the figures on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Network()
    parser.add_argument("--compute-ms", type=float, required=True, help="step of one device")
    parser.add_argument("--gradient-mb", type=float, required=True, help="4 bytes a weight trained")
    parser.add_argument("--within-gb-s", type=float, default=default.within_gb_s)
    parser.add_argument("--within-us", type=float, default=default.within_us)
    parser.add_argument("--between-gb-s", type=float, default=default.between_gb_s)
    parser.add_argument("--between-us", type=float, default=default.between_us)
    parser.add_argument("--per-node", type=int, default=default.per_node)
    parser.add_argument("--jitter", type=float, default=0.01, help="scatter of step times")
    given = parser.parse_args(argv)
    network = Network(
        given.within_gb_s, given.within_us, given.between_gb_s, given.between_us, given.per_node
    )
    print(table(rows(given.compute_ms / 1e3, given.gradient_mb, network, given.jitter)))


if __name__ == "__main__":
    main()
