"""The composition root of training: every room's part made and put together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from harness.checkpoint.store import Store
from harness.deploy.evaluate import Evaluator
from harness.distribute.choose import Choice, choose
from harness.distribute.topology import Topology
from harness.model.assemble import Assembled, assemble, load_backbone
from harness.model.task import make_task
from harness.observe.progress import Progress
from harness.observe.pulse import Heartbeat
from harness.runs.marks import mark_finished
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record
from harness.spec import Spec
from harness.train.best import Best, EarlyStopping
from harness.train.callbacks import Callbacks
from harness.train.keeper import load_weights
from harness.train.loop import Trainer
from harness.train.optimizer import make_optimizer
from harness.train.parts import Parts
from harness.train.plan import Plan, make_plan
from harness.train.position import Position
from harness.worker.datasets import Datasets, check_unchanged, open_datasets
from harness.worker.facts import start_facts
from harness.worker.feeds import Feeds
from harness.worker.signals import StopSignals
from harness.worker.watch import ProgressAndHeartbeat
from harness.worker.writers import open_writers

if TYPE_CHECKING:
    from harness.worker.attempt import Attempt


def train_run(
    paths: RunPaths,
    spec: Spec,
    attempt: Attempt,
    stop: StopSignals,
    environment: dict[str, str],
    *,
    plain: bool | None,
    quiet: bool,
) -> dict[str, float]:
    """Trains the run in ``paths`` to its end, tests the best weights, and records all of it.

    Returns:
        The final figures: ``test_*`` where there is a test set, ``val_*`` of the best weights.
    """
    record = read_record(paths)
    choice = choose(
        spec.cluster.strategy, spec.cluster.device, Topology.from_environment(environment)
    )
    if spec.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    sets = open_datasets(spec, attempt.say, record.get("classes"))
    check_unchanged(sets, record.get("data_digest"))
    distribution = choice.distribution
    feeds = Feeds(spec, sets, distribution, paths)
    model = build_model(spec, sets.classes, choice, record.get("backbone_digest"))
    plan = make_plan(spec, feeds.steps_per_epoch, distribution.replicas)
    optimizer = make_optimizer(spec)
    callbacks = Callbacks(spec.training.callbacks, model.keras, optimizer, plan)
    update_record(paths, **_facts(spec, choice, sets, model, feeds, callbacks, plan))
    with ExitStack() as stack:
        writer = open_writers(paths, attempt.number)
        stack.callback(writer.close)
        progress = Progress(plan.total_steps, plain=plain, quiet=quiet)
        stack.callback(progress.close)
        watch = ProgressAndHeartbeat(
            progress, Heartbeat(paths, attempt=attempt.number), plan.total_steps, attempt
        )
        store = Store(
            paths.checkpoints, keep=spec.checkpoint.keep, access=spec.access, log=watch.say
        )
        store.sweep()
        evaluator = Evaluator(model.keras, model.task, distribution)
        parts = Parts(
            plan=plan,
            model=model,
            optimizer=optimizer,
            distribution=distribution,
            data=feeds,
            validate=_validation(feeds, evaluator),
            saver=store,
            writer=writer,
            watch=watch,
            stop=stop,
            callbacks=callbacks,
            best=_best(spec),
            early=_early(spec),
            log_every=spec.logging.every,
            save_every=spec.checkpoint.every,
        )
        check_metric_names(spec, model, feeds.validation is not None)
        trainer = Trainer(parts)
        position = trainer.run()
        return _finish(paths, attempt, trainer, position, feeds, evaluator)


def build_model(
    spec: Spec, classes: tuple[str, ...], choice: Choice, pinned: str | None
) -> Assembled:
    """Task, backbone and head of a spec; see :func:`harness.model.assemble.assemble`."""
    task = make_task(
        spec.task,
        classes,
        label_smoothing=spec.training.label_smoothing,
        metrics={ref.plugin: ref.options for ref in spec.training.metrics},
    )
    size = spec.data.image_size
    with choice.distribution.scope():
        backbone = load_backbone(spec, size, pinned)
        return assemble(spec, backbone, task, choice.distribution, size)


def _finish(
    paths: RunPaths,
    attempt: Attempt,
    trainer: Trainer,
    position: Position,
    feeds: Feeds,
    evaluator: Evaluator,
) -> dict[str, float]:
    """Tests the best weights, writes the last lines, and marks the run as finished."""
    parts = trainer.parts
    figures = {}
    best = parts.best
    if best.step is not None:
        restored = parts.saver.restore(best.step)
        load_weights(parts.model, restored)
        figures = {
            name: value for name, value in restored.metrics.items() if name.startswith("val_")
        }
    if feeds.test is not None:
        found = feeds.evaluate(feeds.test, evaluator, trainer.leave_if_asked)
        last = parts.plan.phases[-1]
        parts.writer.scalars(
            position.step, found, split="test", epoch=position.epoch, phase=last.name
        )
        figures |= {f"test_{name}": value for name, value in found.items()}
    parts.writer.flush()
    counts = read_record(paths)["counts"] | {"corrupt": len(feeds.recorder)}
    update_record(paths, best=best.to_json(), final=figures, counts=counts)
    mark_finished(
        paths,
        attempt=attempt.number,
        step=position.step,
        total_steps=parts.plan.total_steps,
    )
    return figures


def _facts(
    spec: Spec,
    choice: Choice,
    sets: Datasets,
    model: Assembled,
    feeds: Feeds,
    callbacks: Callbacks,
    plan: Plan,
) -> dict[str, Any]:
    reasons = [*model.not_exact(), *callbacks.not_exact()]
    parameters = sum(int(v.shape.num_elements() or 0) for v in model.trainable())
    return {
        **start_facts(choice),
        "data_digest": sets.digests(),
        "backbone": model.backbone.handle,
        "backbone_digest": model.backbone.digest,
        "classes": list(sets.classes),
        "counts": sets.counts(),
        "parameters": {"backbone": model.backbone.parameters(), "trainable": parameters},
        "trainable_variables": len(model.trainable()),
        "lanes": feeds.order.lanes,
        "block": spec.data.block,
        "window": spec.data.window,
        "total_steps": plan.total_steps,
        "exact": not reasons,
        "not_exact_because": reasons,
    }


def _validation(
    feeds: Feeds, evaluator: Evaluator
) -> Callable[[Callable[[], None]], dict[str, float]] | None:
    if feeds.validation is None:
        return None
    feed = feeds.validation
    return lambda between: feeds.evaluate(feed, evaluator, between)


def _best(spec: Spec) -> Best:
    return Best(spec.checkpoint.best.metric, spec.checkpoint.best.mode)


def _early(spec: Spec) -> EarlyStopping | None:
    wanted = spec.training.early_stopping
    if wanted is None:
        return None
    return EarlyStopping(Best(wanted.metric, wanted.mode, wanted.min_delta), wanted.patience)


def check_metric_names(spec: Spec, model: Assembled, validated: bool) -> None:
    """Holds the metrics that the spec asks for against those that the run will have.

    Raises:
        SpecError: one is not among them; said before training, not after its first epoch.
    """
    from harness.train.best import value_of

    names = model.task.sums.figure_names()
    known = dict.fromkeys(names, 0.0)
    if validated:
        known |= {f"val_{name}": 0.0 for name in names}
    value_of(known, spec.checkpoint.best.metric, "checkpoint.best.metric")
    if spec.training.early_stopping is not None:
        value_of(known, spec.training.early_stopping.metric, "training.early_stopping.metric")
