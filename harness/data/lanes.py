"""Lanes: the fixed virtual readers that make global batches independent of the replica count.

Lane i of L holds the canonical positions [N*i//L, N*(i+1)//L).  Every global batch of B examples
takes k = B/L from each lane, and its rows are lane-major: row ``lane * k + j`` is the j-th example
that the lane gives to this batch.  So replica r of R has the rows [B*r/R, B*(r+1)/R), which are
those of whole lanes when R divides L.  Pure arithmetic, free of TensorFlow and numpy.
"""

from __future__ import annotations

from math import isqrt

from harness.errors import EnvironmentNotAble, SpecError

MOST_LANES = 64
"""Lanes unless ``data.lanes`` asks for more: enough for 64 replicas, few enough to read well."""

_GRID_CANDIDATES = 1024

_POOL, _POOL_BYTES = 8192, 512 << 20
_BLOCK = 32


def lane_count(global_batch: int, wanted: int | None = None) -> int:
    """Number of lanes L: ``wanted``, else the largest power of two up to 64 that divides B.

    Raises:
        SpecError: ``global_batch`` is below 1, or ``wanted`` is no power of two dividing it.
    """
    if global_batch < 1:
        raise SpecError(
            "the global batch must hold an example",
            got=str(global_batch),
            allowed="1 or more",
            path="training.batch_size",
        )
    largest = global_batch & -global_batch
    if wanted is None:
        return min(largest, MOST_LANES)
    if wanted < 1 or wanted & (wanted - 1) or largest % wanted:
        fits = ", ".join(str(1 << i) for i in range(largest.bit_length()))
        raise SpecError(
            f"lanes must be a power of two that divides the global batch of {global_batch}",
            got=str(wanted),
            allowed=fits,
            action="choose one of these or another training.batch_size",
            path="data.lanes",
        )
    return wanted


def reading(lanes: int, example_bytes: float) -> tuple[int, int]:
    """Examples of a block K and blocks of a window W, where the spec says nothing.

    All lanes together shuffle among 8,192 examples, or among fewer where that many would take more
    than 512 MB: a power of two, so that a few examples more or less do not change the order.  A
    window has four blocks at least, and a block 32 examples at most.

    Args:
        example_bytes: mean size of an example's file; 0 where it is not known.
    """
    pool = _POOL
    while pool > lanes and pool * example_bytes > _POOL_BYTES:
        pool //= 2
    each = max(1, pool // lanes)
    block = max(1, min(_BLOCK, each // 4))
    return block, max(1, each // block)


def check_replicas(
    lanes: int,
    replicas: int,
    global_batch: int,
    parts: int = 1,
    field: str = "training.batch_size",
) -> None:
    """Holds that ``replicas`` share the lanes evenly, and each of them its rows in ``parts``.

    Args:
        global_batch: examples of one step, all parts of it.
        field: what says so in the spec.

    Raises:
        EnvironmentNotAble: they do not; names replica counts and batch sizes that fit.
    """
    if replicas >= 1 and lanes % replicas == 0:
        if (global_batch // replicas) % parts == 0:
            return
        batch = global_batch // parts
        raise EnvironmentNotAble(
            f"{replicas} replicas cannot share a batch of {batch} evenly",
            got=f"{replicas} replicas",
            allowed=f"replica counts that divide {batch}",
            action=f"use a {field} that is a multiple of {replicas}, and fewer batches "
            "in training.accumulate",
            path=field,
        )
    counts = ", ".join(str(1 << i) for i in range(lanes.bit_length()))
    if replicas < 1 or replicas & (replicas - 1):
        action = f"use {counts} replicas"
    else:
        # A power of two: some multiple of it is a batch size whose lanes it divides.
        below = global_batch // replicas * replicas
        sizes = [size for size in (below, below + replicas) if size > 0]
        lanes_too = f" and data.lanes={replicas}" if replicas > MOST_LANES else ""
        said = " or ".join(str(size) for size in sizes)
        action = f"use {field}={said}{lanes_too}, or {counts} replicas"
    raise EnvironmentNotAble(
        f"{replicas} replicas cannot share the {lanes} lanes of a global batch of "
        f"{global_batch} evenly",
        got=f"{replicas} replicas",
        allowed=f"replica counts that divide {lanes}: {counts}",
        action=action,
        path=field,
    )


def lane_bounds(n: int, lanes: int, lane: int) -> tuple[int, int]:
    """Canonical positions [start, end) of one lane."""
    if not 0 <= lane < lanes:
        raise ValueError(f"lane must be in [0, {lanes - 1}], was {lane}")
    return n * lane // lanes, n * (lane + 1) // lanes


def steps_per_epoch(n: int, global_batch: int, lanes: int) -> int:
    """Global batches of an epoch: ceil(longest lane / (B/L)).

    Raises:
        ValueError: ``lanes`` does not divide ``global_batch``.
    """
    if global_batch % lanes:
        raise ValueError(f"the lanes must divide the global batch of {global_batch}, were {lanes}")
    # The lengths of lanes differ by one at most, the longest is ceil(N/L).
    longest = -(-n // lanes)
    return -(-longest // (global_batch // lanes))


def replica_rows(global_batch: int, replica: int, replicas: int) -> tuple[int, int]:
    """Rows [start, end) of the global batch that ``replica`` computes."""
    if not 0 <= replica < replicas:
        raise ValueError(f"replica must be in [0, {replicas - 1}], was {replica}")
    return global_batch * replica // replicas, global_batch * (replica + 1) // replicas


def block_count(n: int, block: int) -> int:
    """Blocks of a lane of ``n`` examples; the last one may be short."""
    return -(-n // block)


def grid_of(n: int) -> tuple[int, int]:
    """Sides (a, b) of a near-square grid with a*b >= n and as few spare cells as can be found.

    The permutations of :mod:`harness.data.permute` work on such a grid.  A spare cell costs a
    second pass, a narrow grid mixes less in a round: sides are 3 at least (n > 4) and the
    shorter one is at least three quarters of the square root.
    """
    if n < 1:
        raise ValueError(f"a grid needs a cell, n was {n}")
    top = isqrt(n - 1) + 1
    if n <= 4:
        return top, -(-n // top) if n != 3 else 2
    best = (top, max(-(-n // top), 3))
    for a in range(top, max(top - _GRID_CANDIDATES, -(-3 * top // 4), 3) - 1, -1):
        b = max(-(-n // a), 3)
        if a * b < best[0] * best[1]:
            best = (a, b)
        if a * b == n:
            break
    return best
