"""Mixup and cutmix: pictures of two examples in one, as a pure function of the training order.

The partner of an example is the one that stands at the same place of the global batch before.  A
place belongs to a lane, so whoever computes a row has its partner too: any number of replicas mixes
the same pairs, and a resume reads one batch more than it gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from harness.data.seeds import fold, key_of

if TYPE_CHECKING:
    from harness.spec.models_augment import Augment

Batch = dict[str, tf.Tensor]
# Of the key of a training epoch, as cutout and RandAugment have theirs; never reorder.
_MIXING = 3
_SHARE, _WHICH, _LEFT, _TOP = range(4)
_TABLE = 4096
PARTNER = ("label", "weight")
"""What a batch tells of partners, as ``partner_label`` and so on."""


class Mixing:
    """Mixes the pictures of batches as ``data.augment`` says.

    Args:
        options: ``data.augment`` of the spec; ``mixup`` or ``cutmix`` is above 0.
        seed: the training seed.
    """

    def __init__(self, options: Augment, seed: int) -> None:
        self._seed = seed
        self._mixup, self._cutmix = options.mixup, options.cutmix
        self._tables = {
            alpha: tf.constant(share_table(alpha), tf.float32)
            for alpha in (self._mixup, self._cutmix)
            if alpha
        }

    def batches(
        self, batches: tf.data.Dataset, parts: int, begun: bool, at_once: int
    ) -> tf.data.Dataset:
        """Each batch mixed with the one ``parts`` before it.

        Args:
            batches: as :class:`harness.data.pipeline.Feed` gives them, with ``epoch`` and ``key``,
                both int64 [b].
            parts: batches that make up a global one.
            begun: the first ``parts`` are there only for those that follow, and are not given;
                else nothing is before them, and they stay as they are.
            at_once: batches that are mixed at a time.

        Returns:
            The batches without ``epoch`` and ``key``, with ``share`` float32 [b], the part of each
            row's own picture in 0.5..1, and ``partner_label`` and ``partner_weight``.
        """
        spec = batches.element_spec
        nothing = {name: tf.zeros(one.shape, one.dtype) for name, one in spec.items()}

        @tf.autograph.experimental.do_not_convert
        def step(
            before: tuple[Batch, ...], batch: Batch
        ) -> tuple[tuple[Batch, ...], tuple[Batch, Batch]]:
            return (*before[1:], batch), (batch, before[0])

        pairs = batches.scan((nothing,) * parts, step).skip(parts if begun else 0)
        mixed = tf.autograph.experimental.do_not_convert(self._mixed)
        return pairs.map(mixed, num_parallel_calls=at_once, deterministic=True)

    def _mixed(self, batch: Batch, partner: Batch) -> Batch:
        image, share = self.mix(
            batch["image"], partner["image"], partner["mask"] > 0, batch["epoch"], batch["key"]
        )
        told = {f"partner_{name}": partner[name] for name in PARTNER}
        kept = {name: value for name, value in batch.items() if name not in ("epoch", "key")}
        return kept | told | {"image": image, "share": share}

    def mix(
        self, image: tf.Tensor, other: tf.Tensor, good: tf.Tensor, epoch: tf.Tensor, key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The mixed pictures, and the share that each one's own picture has in it.

        Args:
            image, other: uint8 [b, S, S, 3].
            good: bool [b], whether there is a partner; a row without one stays as it is.
            epoch, key: int64 [b], of the rows of ``image``; the key as
                :func:`harness.data.augment.example_key` gives it.
        """
        draws = self._draws(epoch, key)
        if self._mixup and self._cutmix:
            by = [self._by_mixup(image, other, draws), self._by_cutmix(image, other, draws)]
            first = draws[_WHICH] < 0.5
            mixed = tf.where(first[:, None, None, None], by[0][0], by[1][0])
            share = tf.where(first, by[0][1], by[1][1])
        else:
            blend = self._by_mixup if self._mixup else self._by_cutmix
            mixed, share = blend(image, other, draws)
        mixed = tf.where(good[:, None, None, None], mixed, image)
        return mixed, tf.where(good, share, 1.0)

    def _draws(self, epoch: tf.Tensor, key: tf.Tensor) -> list[tf.Tensor]:
        """float32 [b] in [0, 1), one for each use."""
        drawn = fold(fold(fold(key_of(self._seed), epoch), _MIXING), key)
        each = [fold(drawn, number).a for number in range(4)]
        # 24 bits, as a float32 holds them; more would round up to 1.
        return [
            tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.int64)), tf.float32) / 2.0**24
            for bits in each
        ]

    def _by_mixup(
        self, image: tf.Tensor, other: tf.Tensor, draws: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        share = _looked_up(self._tables[self._mixup], draws[_SHARE])
        part = share[:, None, None, None]
        blend = part * tf.cast(image, tf.float32) + (1.0 - part) * tf.cast(other, tf.float32)
        return tf.cast(tf.round(blend), tf.uint8), share

    def _by_cutmix(
        self, image: tf.Tensor, other: tf.Tensor, draws: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        share = _looked_up(self._tables[self._cutmix], draws[_SHARE])
        size = int(image.shape[1])
        side = tf.round(size * tf.sqrt(1.0 - share))
        at = tf.range(size, dtype=tf.float32)[None]
        inside = []
        for draw in (draws[_TOP], draws[_LEFT]):
            start = (tf.floor(draw * size) - tf.floor(side / 2))[:, None]
            inside.append((at >= start) & (at < start + side[:, None]))
        box = inside[0][:, :, None] & inside[1][:, None, :]
        # At an edge a part of the box falls off; what counts is what is seen.
        seen = tf.reduce_sum(tf.cast(box, tf.float32), axis=[1, 2])
        return tf.where(box[..., None], other, image), 1.0 - seen / size**2


def mixing_of(options: Augment, seed: int) -> Mixing | None:
    """What mixes the batches of training; None where the spec asks for nothing."""
    return Mixing(options, seed) if options.mixup or options.cutmix else None


def share_table(alpha: float) -> np.ndarray:
    """The larger of l and 1 - l, with l of the Beta(alpha, alpha) distribution, by its quantiles.

    float64 [_TABLE + 1], falling from 1 to 0.5: between its entries it is read linearly.

    The density of the smaller part x is proportional to (x (1 - x))^(alpha - 1) on 0..1/2.  It is
    summed by trapezoids; below alpha 1 in u = x^alpha, in which it is (1 - x)^(alpha - 1) and has
    no pole.
    """
    power = min(alpha, 1.0)
    u = np.linspace(0.0, 0.5**power, 16 * _TABLE + 1)
    x = u ** (1.0 / power)
    density = (4.0 * x ** (alpha > 1) * (1.0 - x)) ** (alpha - 1.0)
    summed = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    quantiles = np.interp(np.linspace(0.0, summed[-1], _TABLE + 1), summed, u)
    return np.asarray(1.0 - np.minimum(quantiles ** (1.0 / power), 0.5))


def _looked_up(table: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """Linear interpolation in ``table`` at ``draw`` float32 [b] in [0, 1)."""
    at = draw * _TABLE
    below = tf.cast(at, tf.int32)
    low, high = tf.gather(table, below), tf.gather(table, below + 1)
    return low + (high - low) * (at - tf.floor(at))
