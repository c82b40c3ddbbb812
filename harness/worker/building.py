"""The model of a spec: task, backbone and head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.data.regression import Scaling
from harness.distribute.base import Distribution
from harness.distribute.choose import Choice
from harness.model.assemble import Assembled, assemble
from harness.model.backbone import Backbone, Pinned
from harness.model.loading import check_takes, load_backbone
from harness.model.norm import check_synchronised
from harness.model.task import make_task
from harness.runs.earlier import earlier_run
from harness.spec import Spec, Trust
from harness.worker.earlier import load_earlier


def build_model(
    spec: Spec,
    classes: tuple[str, ...],
    choice: Choice,
    pinned: Pinned | None,
    trust: Trust,
    sizes: Sequence[int] | None = None,
    scaling: Scaling | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Assembled:
    """Task, backbone and head of a spec; see :func:`harness.model.assemble.assemble`.

    Args:
        sizes: of pictures that the model is to take; None are those of all phases.
        scaling: of a regression: how its targets are standardised.
    """
    task = make_task(
        spec.task,
        classes,
        label_smoothing=spec.training.label_smoothing,
        metrics={ref.plugin: ref.options for ref in spec.training.metrics},
        scaling=scaling,
    )
    sizes = spec.image_sizes() if sizes is None else sizes
    with choice.distribution.scope():
        backbone = _backbone(spec, sizes, pinned, trust, choice.distribution, say)
        model = assemble(spec, backbone, task, choice.distribution, sizes)
    learns = next((at for at, phase in enumerate(model.phases) if phase.learns), None)
    where = None if learns is None else f"training.phases.{learns}.backbone_mode"
    check_synchronised(model.keras, backbone.layer, choice.distribution.replicas, where)
    return model


def _backbone(
    spec: Spec,
    sizes: Sequence[int],
    pinned: Pinned | None,
    trust: Trust,
    distribution: Distribution,
    say: Callable[[str], None],
) -> Backbone:
    if earlier_run(spec.backbone.handle) is None:
        return load_backbone(spec, sizes, pinned, trust, distribution)
    backbone = load_earlier(spec, sizes, pinned, trust, distribution, say)
    check_takes(spec, backbone, sizes)
    return backbone
