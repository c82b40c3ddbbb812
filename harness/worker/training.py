"""The composition root of training: every room's part made and put together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from harness.checkpoint.manifest import list_checkpoints
from harness.checkpoint.store import Store
from harness.deploy.evaluate import Evaluator
from harness.distribute.choose import Choice
from harness.errors import SpecError
from harness.model.assemble import Assembled, assemble, load_backbone
from harness.model.task import make_task
from harness.observe.jsonl import RESERVED
from harness.observe.progress import Progress
from harness.observe.pulse import Heartbeat
from harness.observe.writers import MultiWriter
from harness.runs.marks import mark_finished
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record
from harness.spec import Spec, Trust
from harness.train.best import Best, EarlyStopping
from harness.train.callbacks import Callbacks
from harness.train.keeper import load_weights
from harness.train.loop import Trainer
from harness.train.optimizer import make_optimizer
from harness.train.parts import Parts
from harness.train.plan import Plan, make_plan
from harness.train.position import Position
from harness.worker.datasets import Datasets, check_unchanged, open_datasets
from harness.worker.devices import choose_devices
from harness.worker.exactness import Exactness
from harness.worker.facts import start_facts
from harness.worker.feeds import Feeds
from harness.worker.signals import StopSignals
from harness.worker.watch import ProgressAndHeartbeat
from harness.worker.writers import open_writers, show_beginning

if TYPE_CHECKING:
    from harness.worker.attempt import Attempt


@dataclass(frozen=True)
class Made:
    """What training is put together from, before anything is written."""

    choice: Choice
    sets: Datasets
    feeds: Feeds
    model: Assembled
    plan: Plan
    optimizer: tf_keras.optimizers.Optimizer
    callbacks: Callbacks
    evaluator: Evaluator

    def not_exact(self, spec: Spec) -> list[str]:
        """Reasons against an exact resume that show before the first step."""
        return [
            *self.model.not_exact(),
            *self.callbacks.not_exact(),
            *self.feeds.augmenter.hidden_randomness(spec.data.image_size),
        ]


def train_run(
    paths: RunPaths,
    spec: Spec,
    attempt: Attempt,
    stop: StopSignals,
    trust: Trust,
    environment: dict[str, str],
    *,
    plain: bool | None,
    quiet: bool,
) -> dict[str, float]:
    """Trains the run in ``paths`` to its end, tests the best weights, and records all of it.

    Returns:
        The final figures: ``test_*`` where there is a test set, ``val_*`` of the best weights.
    """
    made = make(paths, spec, trust, attempt.say, environment)
    update_record(paths, **facts_of(spec, made))
    with ExitStack() as stack:
        writer = open_writers(paths, attempt.number, spec)
        stack.callback(writer.close)
        total = made.plan.total_steps
        progress = Progress(total, plain=plain, quiet=quiet)
        heartbeat = Heartbeat(paths, attempt=attempt.number)
        watch = ProgressAndHeartbeat(progress, heartbeat, total, attempt)
        stack.callback(watch.close)
        store = Store(
            paths.checkpoints, keep=spec.checkpoint.keep, access=spec.access, log=watch.say
        )
        store.sweep()
        exactness = Exactness(paths, spec.training.deterministic, watch.say)
        exactness.not_exact(made.not_exact(spec))
        trainer = Trainer(_parts(paths, spec, made, store, writer, watch, stop, exactness))
        position = trainer.run()
        return _finish(paths, attempt, trainer, position, made)


def make(
    paths: RunPaths,
    spec: Spec,
    trust: Trust,
    say: Callable[[str], None],
    environment: dict[str, str],
) -> Made:
    """Looks at machine, data and backbone, and builds the model; reads the run, writes nothing.

    Raises:
        EnvironmentNotAble, DataError, SpecError, UsageError: something does not fit.
    """
    record = read_record(paths)
    choice = choose_devices(spec, environment)
    if spec.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    begun = bool(list_checkpoints(paths.checkpoints))
    # Before the first checkpoint nothing hangs on the data yet: mended files are just taken.
    sets = open_datasets(spec, say, record.get("classes") if begun else None)
    if begun:
        check_unchanged(sets, record.get("data_digest"))
    feeds = Feeds(spec, sets, choice.distribution, paths)
    model = build_model(spec, sets.classes, choice, record.get("backbone_digest"), trust)
    check_metric_names(spec, model, feeds.validation is not None)
    plan = make_plan(spec, feeds.steps_per_epoch, choice.distribution.replicas)
    optimizer = make_optimizer(spec)
    return Made(
        choice,
        sets,
        feeds,
        model,
        plan,
        optimizer,
        Callbacks(spec.training.callbacks, model.keras, optimizer, plan),
        Evaluator(model.keras, model.task, choice.distribution),
    )


def _parts(
    paths: RunPaths,
    spec: Spec,
    made: Made,
    store: Store,
    writer: MultiWriter,
    watch: ProgressAndHeartbeat,
    stop: StopSignals,
    exactness: Exactness,
) -> Parts:
    best = Best(spec.checkpoint.best.metric, spec.checkpoint.best.mode)
    return Parts(
        plan=made.plan,
        model=made.model,
        optimizer=made.optimizer,
        distribution=made.choice.distribution,
        data=made.feeds,
        validate=_validation(made.feeds, made.evaluator),
        saver=store,
        writer=writer,
        watch=watch,
        stop=stop,
        callbacks=made.callbacks,
        open=lambda: show_beginning(writer, spec, made.feeds),
        improved=lambda: note_best(paths, best),
        not_exact=exactness.not_exact,
        best=best,
        early=_early(spec),
        log_every=spec.logging.every,
        save_every=spec.checkpoint.every,
    )


def build_model(
    spec: Spec, classes: tuple[str, ...], choice: Choice, pinned: str | None, trust: Trust
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
        backbone = load_backbone(spec, size, pinned, trust)
        return assemble(spec, backbone, task, choice.distribution, size)


def _finish(
    paths: RunPaths, attempt: Attempt, trainer: Trainer, position: Position, made: Made
) -> dict[str, float]:
    """Tests the best weights, writes the last lines, and marks the run as finished."""
    parts, feeds = trainer.parts, made.feeds
    figures: dict[str, float] = {}
    best = parts.best
    if best.step is not None:
        restored = parts.saver.restore(best.step)
        load_weights(parts.model, restored)
        figures = {
            name: value for name, value in restored.metrics.items() if name.startswith("val_")
        }
    if feeds.test is not None:
        found = feeds.evaluate(feeds.test, made.evaluator, trainer.leave_if_asked)
        last = parts.plan.phases[-1]
        weights = {"weights_step": float(position.step if best.step is None else best.step)}
        parts.writer.scalars(
            position.step,
            found | weights,
            split="test",
            epoch=position.last_epoch(last),
            phase=last.name,
        )
        figures |= {f"test_{name}": value for name, value in found.items()}
    parts.writer.flush()
    counts = read_record(paths)["counts"] | {"corrupt": feeds.corrupt}
    update_record(paths, best=best.to_json(), final=figures, counts=counts)
    total = parts.plan.total_steps
    mark_finished(paths, attempt=attempt.number, step=position.step, total_steps=total)
    return figures


def facts_of(spec: Spec, made: Made) -> dict[str, Any]:
    """What the record holds of an attempt's beginning."""
    model = made.model
    trainable = sum(int(v.shape.num_elements() or 0) for v in model.trainable())
    return {
        **start_facts(made.choice),
        "data_digest": made.sets.digests(),
        "backbone": model.backbone.handle,
        "backbone_digest": model.backbone.digest,
        "classes": list(made.sets.classes),
        "counts": made.sets.counts(),
        "parameters": {"backbone": model.backbone.parameters(), "trainable": trainable},
        "trainable_variables": len(model.trainable()),
        "lanes": made.feeds.order.lanes,
        "block": spec.data.block,
        "window": spec.data.window,
        "total_steps": made.plan.total_steps,
        "exact": True,
        "not_exact_because": [],
    }


def _validation(
    feeds: Feeds, evaluator: Evaluator
) -> Callable[[Callable[[], None]], dict[str, float]] | None:
    if feeds.validation is None:
        return None
    feed = feeds.validation
    return lambda between: feeds.evaluate(feed, evaluator, between)


def note_best(paths: RunPaths, best: Best) -> None:
    """Puts the best so far into the record, where predict and status find it."""
    update_record(paths, best=best.to_json())


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
    taken = [name for name in RESERVED if name in names] + sorted(
        {name for name in names if list(names).count(name) > 1}
    )
    if taken:
        raise SpecError(
            "a metric plug-in has a name that is taken",
            got=", ".join(taken),
            allowed="a name of its own",
            action="register it under another name",
            path="training.metrics",
        )
    known = dict.fromkeys(names, 0.0)
    if validated:
        known |= {f"val_{name}": 0.0 for name in names}
    value_of(known, spec.checkpoint.best.metric, "checkpoint.best.metric")
    if spec.training.early_stopping is not None:
        value_of(known, spec.training.early_stopping.metric, "training.early_stopping.metric")
