"""The last part of a run with ``adaptation.method: adabn``: the statistics of the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import tensorflow as tf

from harness.checkpoint.store import Store
from harness.data.content import examples_in
from harness.model.adaptation.fused import Fused
from harness.model.adaptation.statistics import estimate
from harness.model.assemble import Assembled, stable_names
from harness.runs.paths import RunPaths
from harness.runs.record import update_record
from harness.spec import Spec
from harness.train import state
from harness.train.keeper import phase_of
from harness.train.parts import RestoredState
from harness.worker.feeds import Feeds
from harness.worker.making import Made


def adapt(
    paths: RunPaths,
    spec: Spec,
    made: Made,
    between: Callable[[], None],
    say: Callable[[str], None],
    step: int,
    phase: int,
) -> None:
    """Gives the weights of ``step`` the batch-norm statistics of the target, and saves them.

    They are a checkpoint in a folder of its own, since those of the training keep the statistics
    of the source.  It is worked out anew where a run ends again, from the same examples in the
    same order.

    Args:
        between: called between batches; what it raises ends the adaptation.
        phase: that of these weights, whose sizes are taken.
    """
    if spec.adaptation is None or spec.adaptation.method != "adabn":
        return
    distribution, model = made.choice.distribution, made.model
    # What is inside of a SavedModel was seen to be there, of one replica.
    fused = Fused(model.backbone, model.pretrained) if distribution.replicas == 1 else None
    examples = _examples(spec, made.feeds, phase, between)
    changed = estimate(model.keras, examples, distribution, fused)
    made.feeds.check()
    if not distribution.topology.is_first:
        return
    store = Store(paths.adapted, keep=1, access=spec.access, log=say)
    store.sweep()
    # Of a frozen backbone they are in no checkpoint of the training.
    named, ids = _named(model), {id(variable) for variable in changed}
    adapted = {name: variable for name, variable in named.items() if id(variable) in ids}
    tensors = state.snapshot(model.state(phase) | adapted, state.MODEL)
    if (bad := state.not_finite(tensors, step)) is not None:
        raise bad
    store.save(step, tensors, {"position": {"phase": phase}})
    update_record(paths, adapted={"step": step, "norms": len(changed) // 2})
    say(f"adabn: {len(changed) // 2} batch normalisations have the statistics of the target")


def load_adapted(model: Assembled, restored: RestoredState) -> None:
    """Gives ``model`` the weights and statistics that :func:`adapt` saved.

    Raises:
        TrainingError: they do not fit the model.
    """
    there = restored.tensors
    adapted = {n: v for n, v in _named(model).items() if f"{state.MODEL}{n}" in there}
    state.assign(model.state(phase_of(restored)) | adapted, there, state.MODEL)


def _named(model: Assembled) -> dict[str, tf.Variable]:
    weights = model.keras.weights
    return dict(zip(stable_names(weights), weights, strict=True))


def _examples(
    spec: Spec, feeds: Feeds, phase: int, between: Callable[[], None]
) -> Iterator[tf.Tensor]:
    """Batches of the target without padding and what cannot be read; all of it on every rank.

    The last batch is left out where it is not whole: the moments of a few examples are not like
    those of many.
    """
    feed = feeds.target
    assert feed is not None, "a spec that adapts names a target"
    # Each replica passes all of them, so no more at once than it trains on.
    batch = max(1, spec.batch_size_of(phase) // feeds.distribution.replicas)
    count = max(1, len(feed.index) // batch)
    for rows in feed.evaluation(batch, spec.image_size_of(phase)).take(count):
        examples = tf.boolean_mask(examples_in(rows), rows["mask"] > 0)
        if int(examples.shape[0]):
            yield examples
        between()
