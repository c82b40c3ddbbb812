"""What an adaptation to a target domain does not go with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.spec.base import Complaint, show

if TYPE_CHECKING:
    from harness.spec.models import Spec


def adapting(spec: Spec) -> Iterator[Complaint]:
    """Complains of fields beside which the adaptation of a spec means nothing."""
    wanted, head = spec.adaptation, spec.head
    if wanted is None or not spec.trains_on_target:
        return
    own_layers = bool(head.hidden) and head.plugin is None
    if spec.training.accumulate > 1:
        yield Complaint(
            "training.accumulate",
            f"{wanted.method} compares whole batches of both domains, of which a part says less",
            show(spec.training.accumulate),
            f"1 with adaptation.method: {wanted.method}",
            "remove it, and set training.batch_size to what fits into memory",
        )
    training = spec.training
    if training.jit_compile:
        what = f"the comparison of {wanted.method} cannot be compiled with XLA"
        yield Complaint("training.jit_compile", what, "true", "false", "remove it")
    if training.precision != "float32":
        what = f"{wanted.method} compares features in full precision"
        yield Complaint("training.precision", what, training.precision, "float32", "remove it")
    frozen = all(phase.unfreeze == "none" for phase in spec.training.phases)
    if frozen and not own_layers:
        yield Complaint(
            "adaptation",
            "nothing before the place where the features are compared is trained: the head has no "
            "hidden layer of ours, and no phase unfreezes the backbone",
            wanted.method,
            "head.hidden, or a phase with unfreeze",
            "set head: {hidden: [256]}, or unfreeze: last:3 in a phase",
        )
