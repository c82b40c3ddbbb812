"""The order of examples written out as lists, in plain Python: slow, memory hungry, plain to see.

Shares nothing with ``harness.data.order`` and ``harness.data.permute``; only what the format
fixes (constants, grids) stands here a second time.
"""

from __future__ import annotations

from math import isqrt

LOW = 0xFFFFFFFF
CANONICAL_SEED = 0x6861726E657373


def mix(x: int) -> int:
    for _ in range(2):
        x = (x ^ x >> 16) * 0x45D9F3B & LOW
    return x ^ x >> 16


def key_of(*numbers: int) -> tuple[int, int]:
    a, b = 0x9E3779B9, 0x45D9F3B
    for number in numbers:
        a = mix((mix(a ^ number & LOW) + b) & LOW)
        b = mix((mix(b ^ number >> 32 & LOW) + a + 0x9E3779B9) & LOW)
    return a, b


def grid(n: int) -> tuple[int, int]:
    if n <= 4:
        return {1: (1, 1), 2: (2, 1), 3: (2, 2), 4: (2, 2)}[n]
    top = isqrt(n - 1) + 1
    low = max(top - 1024, -(-3 * top // 4), 3)
    sides = [(a, max(-(-n // a), 3)) for a in range(top, low - 1, -1)]
    return min(sides or [(top, 3)], key=lambda side: side[0] * side[1])


def permutation(n: int, key: tuple[int, int]) -> list[int]:
    """Where each of 0..n-1 goes."""
    a, b = grid(n)

    def once(x: int) -> int:
        left, right = divmod(x, b)
        for i in range(0, 10, 2):
            left = (left + (mix(right ^ (key[0] + i * key[1]) & LOW) * a >> 32)) % a
            right = (right + (mix(left ^ (key[0] + (i + 1) * key[1]) & LOW) * b >> 32)) % b
        return left * b + right

    out = []
    for x in range(n):
        y = once(x)
        while y >= n:
            y = once(y)
        out.append(y)
    return out


def lane_sequence(
    start: int, end: int, lane: int, seed: int, epoch: int, block: int, window: int
) -> list[int]:
    """Canonical positions of a lane in the order of an epoch."""
    blocks = [list(range(at, min(at + block, end))) for at in range(start, end, block)]
    order = permutation(len(blocks), key_of(seed, epoch, lane, 1)) if blocks else []
    shuffled_blocks = [blocks[at] for at in order]
    sequence = []
    for number, first in enumerate(range(0, len(blocks), window)):
        inside = [at for one in shuffled_blocks[first : first + window] for at in one]
        moved = permutation(len(inside), key_of(seed, epoch, lane, 2, number))
        sequence += [inside[at] for at in moved]
    return sequence


def epoch_of(
    n: int, batch: int, lanes: int, seed: int, epoch: int, block: int, window: int
) -> tuple[list[list[int | None]], list[int]]:
    """Global batches of canonical positions (None is padding), and the canonical order."""
    sequences = [
        lane_sequence(n * i // lanes, n * (i + 1) // lanes, i, seed, epoch, block, window)
        for i in range(lanes)
    ]
    k = batch // lanes
    steps = -(-max(map(len, sequences)) // k)
    batches = [
        [
            sequence[p] if p < len(sequence) else None
            for sequence in sequences
            for p in range(step * k, (step + 1) * k)
        ]
        for step in range(steps)
    ]
    return batches, permutation(n, key_of(CANONICAL_SEED))
