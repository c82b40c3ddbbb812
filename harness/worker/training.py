"""The composition root of training: the loop put together and carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoint.leftovers import discard_later
from harness.deploy.evaluate import Evaluator
from harness.model.arithmetic import computing_in
from harness.runs.marks import mark_finished
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record
from harness.spec import Spec, Trust
from harness.spec.models_training import Training
from harness.train.best import Best, EarlyStopping
from harness.train.loop import Trainer
from harness.train.parts import Parts
from harness.train.plan import DROP_FACTOR
from harness.train.plateau import Plateau
from harness.train.position import Position
from harness.train.rollbacks import RollBack, RollBacks
from harness.train.scaling import SKIPPED_IN_A_ROW, LossScale
from harness.worker.adapted import adapt
from harness.worker.featured import Featured
from harness.worker.feeds import Feeds, examples_per_step
from harness.worker.making import Made, facts_of, make
from harness.worker.outside import Outside, first_rank, other_rank
from harness.worker.precision import Arithmetic
from harness.worker.ranks import Ranks
from harness.worker.signals import StopSignals
from harness.worker.staged_run import stage_beside
from harness.worker.writers import show_beginning

if TYPE_CHECKING:
    from harness.worker.account import Attempt
    from harness.worker.attempt import Shown

_PATIENCE, _LEAST_GAIN = 2, 1e-4
"""Of a plateau where the spec does not say it.  Keras waits ten epochs, which runs of transfer
learning seldom have; its least gain is this."""


def train_run(
    paths: RunPaths,
    spec: Spec,
    attempt: Attempt | None,
    stop: StopSignals,
    trust: Trust,
    environment: Mapping[str, str],
    ranks: Ranks,
    shown: Shown,
) -> dict[str, float]:
    """Trains the run in ``paths`` to its end, tests the best weights, and records all of it.

    Args:
        attempt: the account of rank 0; None on the others, which write nothing.

    Returns:
        The final figures: ``test_*`` where there is a test set, ``val_*`` of the best weights.
    """
    with ExitStack() as stack:
        stack.enter_context(computing_in(spec.training.precision))
        made = make(paths, spec, trust, shown.say, environment, ranks)
        if attempt is not None:
            update_record(paths, **facts_of(spec, made))
            if made.choice.distribution.replicas > 1:
                shown.say(f"{made.choice.distribution.name}: {made.choice.why}")
        if attempt is None:
            outside = other_rank(spec, ranks.rhythm)
        else:
            outside = first_rank(paths, spec, attempt, shown, made.plan.total_steps)
        stack.callback(outside.close)
        outside.exactness.not_exact(made.not_exact(spec))
        stage_beside(stack, paths, spec, made, environment, ranks, outside.watch.say)
        made.feeds.features = _features(
            paths, spec, made, outside, environment, attempt is not None
        )
        rollbacks = _rollbacks(paths, spec.training, attempt, outside.watch.say)
        trainer = Trainer(_parts(paths, spec, made, outside, stop, rollbacks))
        position = trainer.run()
        adapted = partial(adapt, paths, spec, made, trainer.leave_if_asked, outside.watch.say)
        figures = _final_figures(trainer, position, made, adapted)
        if attempt is not None:
            ranks.all_done()
            made.feeds.check()  # what the others met in their last batches may come late
            _finish(paths, attempt, trainer, position, made, figures)
        return figures


def _features(
    paths: RunPaths,
    spec: Spec,
    made: Made,
    outside: Outside,
    environment: Mapping[str, str],
    first: bool,
) -> Featured:
    """Where phases with a frozen backbone read from; rank 0 (``first``) records it."""

    def note(cached: dict[str, Any]) -> None:
        if first:
            update_record(paths, feature_cache=cached)

    return Featured(
        spec,
        made.feeds,
        made.model,
        Path(environment["HARNESS_CACHE"]),
        environment,
        outside.watch.say,
        note,
        outside.exactness.not_exact,
        made.features_before,
    )


def _parts(
    paths: RunPaths,
    spec: Spec,
    made: Made,
    outside: Outside,
    stop: StopSignals,
    rollbacks: RollBacks,
) -> Parts:
    first = made.choice.distribution.topology.is_first
    training = spec.training
    arithmetic = Arithmetic(paths if first else None, training, outside.watch.say)
    return Parts(
        plan=made.plan,
        examples=examples_per_step(spec),
        accumulate=training.accumulate,
        model=made.model,
        optimizer=made.optimizer,
        distribution=made.choice.distribution,
        data=made.feeds,
        validate=_validation(made.feeds, made.evaluator),
        saver=outside.saver,
        writer=outside.writer,
        watch=outside.watch,
        stop=stop,
        callbacks=made.callbacks,
        open=lambda: show_beginning(outside.writer, spec, made.feeds) if first else None,
        improved=lambda found: note_best(paths, found) if first else None,
        kept=lambda step: paths.checkpoint(step).is_dir(),
        not_exact=outside.exactness.not_exact,
        scaling=_scaling(training),
        jit_compile=training.jit_compile,
        watched=arithmetic.watched,
        best=Best(spec.checkpoint.best.metric, spec.checkpoint.best.mode),
        early=_early(spec),
        plateau=_plateau(spec),
        rollbacks=rollbacks,
        log_every=spec.logging.every,
        save_every=spec.checkpoint.every,
    )


def _final_figures(
    trainer: Trainer, position: Position, made: Made, adapted: Callable[[int, int], None]
) -> dict[str, float]:
    """Tests the best weights and writes that line; all ranks take part.

    Args:
        adapted: called with their step and phase before: what adapts them to a target.
    """
    parts, feeds = trainer.parts, made.feeds
    figures: dict[str, float] = {}
    best, phase = parts.best, position.phase
    if best.step is not None:
        metrics, phase = trainer.keeper.load(best.step)
        figures = {name: value for name, value in metrics.items() if name.startswith("val_")}
    step, found = position.step if best.step is None else best.step, None
    # The best weights are averages already; the last ones are where there are no best.
    with trainer.keeper.averages.shown() if best.step is None else nullcontext():
        adapted(step, phase)
        if feeds.test is not None:
            found = feeds.evaluate(feeds.test, made.evaluator, trainer.leave_if_asked, phase)
    if found is not None:
        last = parts.plan.phases[-1]
        weights = {"weights_step": float(step)}
        parts.writer.scalars(
            position.step,
            found | weights,
            split="test",
            epoch=position.last_epoch(last),
            phase=last.name,
        )
        figures |= {f"test_{name}": value for name, value in found.items()}
    parts.writer.flush()
    return figures


def _finish(
    paths: RunPaths,
    attempt: Attempt,
    trainer: Trainer,
    position: Position,
    made: Made,
    figures: Mapping[str, float],
) -> None:
    """Records the figures and marks the run as finished."""
    parts = trainer.parts
    attempt.fence.check()
    counts = read_record(paths)["counts"] | {"corrupt": made.feeds.corrupt}
    update_record(paths, best=parts.best.to_json(), final=dict(figures), counts=counts)
    total = parts.plan.total_steps
    mark_finished(paths, attempt=attempt.number, step=position.step, total_steps=total)


def _validation(
    feeds: Feeds, evaluator: Evaluator
) -> Callable[[Callable[[], None], int], dict[str, float]] | None:
    if feeds.validation is None:
        return None
    feed = feeds.validation
    return lambda between, phase: feeds.evaluate(feed, evaluator, between, phase)


def note_best(paths: RunPaths, best: Mapping[str, Any]) -> None:
    """Puts the best so far into the record, where predict and status find it.

    Args:
        best: what :meth:`harness.train.best.Best.to_json` gives; without a step there is none yet.
    """
    update_record(paths, best=None if best["step"] is None else dict(best))


def _plateau(spec: Spec) -> Plateau | None:
    wanted = spec.training.schedule
    if wanted.watched is None:
        return None
    delta = _LEAST_GAIN if wanted.min_delta is None else wanted.min_delta
    best = Best(wanted.watched, wanted.mode or "auto", delta)
    return Plateau(best, wanted.patience or _PATIENCE, wanted.factor or DROP_FACTOR)


def _scaling(training: Training) -> LossScale | None:
    """Float16 has too few small numbers for gradients; bfloat16 has those of float32."""
    scaled = training.precision == "mixed_float16"
    if training.nan == "halt" and not scaled:
        return None
    patience = SKIPPED_IN_A_ROW if training.nan == "skip" else 0
    return LossScale(fixed=not scaled, patience=patience)


def _rollbacks(
    paths: RunPaths, training: Training, attempt: Attempt | None, say: Callable[[str], None]
) -> RollBacks:
    """Rank 0 keeps them in the run's record."""
    wanted = training.nan == "rollback"
    if attempt is None:
        return RollBacks(wanted)

    def note(done: list[RollBack]) -> None:
        attempt.fence.check()
        update_record(paths, rollbacks=done)

    def leave(step: int) -> None:
        attempt.fence.check()
        discard_later(paths.checkpoints, step, say)

    return RollBacks(wanted, lambda: read_record(paths).get("rollbacks") or [], note, leave)


def _early(spec: Spec) -> EarlyStopping | None:
    wanted = spec.training.early_stopping
    if wanted is None:
        return None
    return EarlyStopping(Best(wanted.metric, wanted.mode, wanted.min_delta), wanted.patience)
