"""The target domain of an adaptation: its batches beside those of the source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from harness.data.content import content_of_spec, examples_in
from harness.data.lanes import reading
from harness.data.order import Order
from harness.data.pipeline import Feed
from harness.distribute.topology import Topology
from harness.model.adaptation.fused import Fused
from harness.model.adaptation.statistics import check_norms, norms_of
from harness.model.assemble import Assembled
from harness.spec import Spec

_OTHER = 0x746172676574
"""Makes another seed of ``training.seed`` ("target" in ASCII)."""


class TargetBatches:
    """The target's batches in an order of their own, joined to those of the source.

    The n-th batch of the source's order, counted from its first epoch, comes with the n-th of the
    target's, whose epochs have their own length.  So where a run goes on hangs on the position of
    the source alone, and the number of replicas changes nothing.

    Args:
        make: a feed of the target in an order.
        example_bytes, n: mean size and number of the target's examples.
    """

    def __init__(
        self, spec: Spec, make: Callable[[Order], Feed], example_bytes: float, n: int
    ) -> None:
        self._spec, self._make = spec, make
        self._example_bytes, self._n = example_bytes, n

    def beside(
        self,
        batches: tf.data.Dataset,
        source: Order,
        epoch: int,
        step: int,
        size: int | None,
        place: Topology,
        devices: int,
    ) -> tf.data.Dataset:
        """Batches of the source with ``target`` [b, ...] and ``target_mask`` [b] beside them.

        Args:
            batches: of this rank, from (epoch, step) of the order ``source`` on.
            size: height and width of pictures in pixels.
            place, devices: this rank, and its replicas.
        """
        data, seed = self._spec.data, self._spec.training.seed
        block, window = reading(source.lanes, self._example_bytes)
        order = Order(
            self._n,
            source.global_batch,
            source.lanes,
            seed ^ _OTHER,
            data.block or block,
            data.window or window,
        )
        at = divmod(epoch * source.steps_per_epoch + step, order.steps_per_epoch)
        mine = self._make(order).training(*at, size, place.rank, place.size, devices=devices)
        return tf.data.Dataset.zip((batches, mine)).map(_joined)


def _joined(source: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    return source | {"target": examples_in(target), "target_mask": target["mask"]}


def check_statistics(
    spec: Spec, model: Assembled, replicas: int, say: Callable[[str], None]
) -> None:
    """Holds that a run whose end gives a model other statistics has a model with such."""
    if spec.adaptation is None or spec.adaptation.method != "adabn":
        return
    fused = Fused(model.backbone, model.pretrained)
    takes = content_of_spec(spec).element(spec.image_size_of(0))
    check_norms(model.keras, fused, takes, replicas)
    pretrained = bool(fused.variables) or bool(norms_of(model.pretrained))
    if pretrained and not any(phase.learns for phase in model.phases):
        say(
            "warning: adabn will replace statistics that are those of the pretraining, by which "
            "the head learns, not those of data.train; with backbone_mode: training in a phase "
            "that unfreezes they are"
        )
