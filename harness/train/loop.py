"""The training loop: steps in long calls, and between them everything that keeps a run safe."""

from __future__ import annotations

import time

import tensorflow as tf

from harness.data.randomness import hidden_random_ops
from harness.distribute.pace import Pace
from harness.errors import StoppedEarly
from harness.runs.figures import epoch_line
from harness.spec import Duration
from harness.train.agreement import check_equal
from harness.train.beginnings import Beginnings
from harness.train.best import value_of
from harness.train.course import tell_where
from harness.train.keeper import Keeper
from harness.train.kinds import make_steps
from harness.train.parts import Parts
from harness.train.plan import Phase
from harness.train.position import Position
from harness.train.rates import Rates
from harness.train.rollbacks import NotFinite
from harness.train.state import Sums


class Trainer:
    """Carries out a plan from wherever the newest checkpoint left it.

    ``position`` is between steps at all times that anything outside can see it.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.position = Position()
        self.metrics: dict[str, float] = {}
        self._steps = make_steps(parts)
        self._rates = Rates(parts, self._steps)
        self._sums = Sums(self._steps, self._steps.zeros())
        self._pace = Pace(agree=parts.distribution.first)
        self._beginnings = Beginnings(parts.model, parts.optimizer)
        self.keeper = Keeper(parts, self._sums, self._beginnings)

    def run(self) -> Position:
        """Trains to the end of the plan and returns the last position.

        Raises:
            StoppedEarly: asked to stop; everything is saved.
            TrainingError: a value was not finite, or a checkpoint does not fit.
            DataError, StorageError: see there.
        """
        bad: NotFinite | None = None
        while True:
            self._begin(bad)
            try:
                return self._carry_out()
            except NotFinite as error:
                if not self.parts.rollbacks.wanted:
                    raise
                bad = error.with_traceback(None)  # whose frames hold batches and graphs

    # The verbs of the loop, in its order.

    def _begin(self, bad: NotFinite | None) -> None:
        self._restore(bad)
        self.keeper.check_equal("at the start" if bad is None else "after going back")
        self.parts.callbacks.on_train_begin()

    def _carry_out(self) -> Position:
        while (phase := self._next_phase()) is not None:
            self._enter_phase(phase)
            while self._goes_on(phase, self.position):
                if self.position.validated:
                    self._take_steps(phase)
                    self._cut_epoch_if_stopped()
                if self.position.validated:
                    self._write_line_if_due(phase)
                else:
                    self._end_epoch(phase)
                self._save_if_due(phase)
                self.leave_if_asked()
        self.keeper.save(self.position, self.metrics)
        self.keeper.settle()
        self.parts.callbacks.on_train_end()
        return self.position

    def _restore(self, bad: NotFinite | None) -> None:
        self._iterator = None
        found = self.keeper.restore(bad)
        if found is not None:
            self.position, self.metrics = found
            tell_where(self.parts, self.position.step, bad)
            # An end right after its save has not noted it, or what is noted has been left behind.
            self.parts.improved(self.parts.best.to_json())
        # A step whose epoch is still to be validated has no lines yet, or will have them again.
        ahead = 0 if self.position.validated else 1
        self.parts.writer.rollback(self.position.step - ahead)
        if bad is not None:
            self.leave_if_asked()
        elif self.position.step == 0:
            self.parts.open()
        if found is None and self.parts.rollbacks.wanted:
            self.keeper.save(self.position, self.metrics)  # to have something to go back to

    def _next_phase(self) -> Phase | None:
        """The phase to go on with; None at the end, where the position stays in the phase of the
        last step, so that a longer plan goes on from there."""
        position, phases = self.position, self.parts.plan.phases
        for phase in phases[position.phase :]:
            if self._goes_on(phase, position):
                self.position = position
                return phase
            if position.phase_step < phase.steps:
                self.parts.watch.say(
                    f"phase {phase.name} ends early, after {position.phase_step} of "
                    f"{phase.steps} steps"
                )
            if phase is not phases[-1]:
                position = position.next_phase(phase)
                for watching in (self.parts.early, self.parts.plateau):
                    if watching is not None:
                        watching.restart()
        return None

    def _enter_phase(self, phase: Phase) -> None:
        begins = self.position.phase_step == 0
        # The phase before stops to read ahead: of its size, and into memory of its own.
        self._iterator = None
        self.parts.data.enter(phase.index, self.leave_if_asked, goes_on=not begins)
        if begins and phase.start_from == "best":
            self.keeper.load_best()
        self._beginnings.enter(phase, anew=begins)
        self._steps.set_position(self.position.step, self.position.phase_step)
        self._rates.enter()
        self._many = self._steps.compile(phase)
        self._read_from_here(phase)
        start = self.position.step - self.position.phase_step
        self.parts.watch.phase(phase.name, start, start + phase.steps)

    def _read_from_here(self, phase: Phase) -> None:
        self._iterator = None
        self._pace.restart()
        self._iterator = iter(
            self.parts.data.training(
                self.position.epoch_of(phase),
                self.position.epoch_step(phase),
                phase.image_size,
                phase.batch_size,
            )
        )
        self._look_for_hidden_randomness()

    def _look_for_hidden_randomness(self) -> None:
        # Traces the function that the first call of the phase would trace.
        ops = hidden_random_ops(self._many.get_concrete_function(self._iterator, tf.constant(1)))
        if ops:
            self.parts.not_exact([f"the model draws from hidden state: {', '.join(ops)}"])

    def _goes_on(self, phase: Phase, position: Position) -> bool:
        if not position.validated:
            return True
        early = self.parts.early is not None and self.parts.early.over
        stopped = early or self.parts.callbacks.stop_training
        return not stopped and position.phase_step < phase.steps

    def _take_steps(self, phase: Phase) -> None:
        parts, position = self.parts, self.position
        if parts.data.moved():
            self._read_from_here(phase)
        epoch = position.epoch_of(phase)
        if position.epoch_step(phase) == 0:
            parts.callbacks.on_epoch_begin(epoch)
            self._sums.begin_epoch()
        count = self._pace.next(position.left_in_epoch(phase), *self._until_due(phase))
        parts.callbacks.on_train_batch_begin(position.epoch_step(phase))
        began = time.monotonic()
        with parts.watched(phase.name):
            self._many(self._iterator, tf.constant(count))
        loss, examples = self._sums.latest()
        seconds = time.monotonic() - began
        self._pace.done(count, seconds)
        self.position = position.forward(count, phase)
        if (bad := self._steps.not_finite()) is not None:
            raise NotFinite.at(*bad)
        parts.data.check()
        parts.callbacks.on_train_batch_end(
            position.epoch_step(phase) + count - 1, {"loss": loss, "size": examples}
        )
        parts.callbacks.agree(parts.distribution)
        parts.stop.stepped()
        parts.watch.update(
            self.position.step,
            phase=phase.name,
            epoch=epoch,
            examples_per_s=examples / seconds,
            loss=loss,
        )

    def _cut_epoch_if_stopped(self) -> None:
        # As in Model.fit: a callback that stops between two batches still gets its epoch's end.
        if self.parts.callbacks.stop_training:
            self.position = self.position.before_validation()

    def _write_line_if_due(self, phase: Phase) -> None:
        every = self.parts.log_every
        if self._left(every, phase) == every.steps(phase.steps_per_epoch, phase.steps):
            figures = self._steps.figures(self._sums.end_window())
            self._write(figures, "train", phase, epoch_end=False)

    def _end_epoch(self, phase: Phase) -> None:
        parts = self.parts
        found: dict[str, float] = {}
        kept = self.keeper.variables(self.position.phase)
        check_equal(parts.distribution, kept, f"after step {self.position.step}")
        if parts.validate is not None:
            parts.callbacks.on_test_begin()
            with self.keeper.averages.shown():
                found = parts.validate(self.leave_if_asked, phase.index)
            parts.callbacks.on_test_end(found)
        # All lines after the validation: a stop in its midst repeats it, and so them.
        self._write_line_if_due(phase)
        self._sums.end_window()
        figures = self._steps.figures(self._sums.epoch)
        self._write(figures, "train", phase, epoch_end=True)
        if found:
            self._write(found, "val", phase, epoch_end=True)
        figures.update({f"val_{name}": value for name, value in found.items()})
        self.metrics = figures
        improved = parts.best.update(
            value_of(figures, parts.best.metric, "checkpoint.best.metric"), self.position.step
        )
        if parts.early is not None:
            watched = value_of(figures, parts.early.best.metric, "training.early_stopping.metric")
            parts.early.update(watched, self.position.step)
        self._rates.lower_if_due(figures, self.position.step)
        self.position = self.position.after_validation()
        parts.callbacks.on_epoch_end(self.position.last_epoch(phase), figures)
        parts.callbacks.agree(parts.distribution)
        epoch = self.position.last_epoch(phase) + 1
        parts.watch.say(epoch_line(epoch, parts.plan.total_epochs, figures, improved))
        parts.writer.flush()
        if improved:
            best = parts.best.to_json()
            self.keeper.save(self.position, figures, then=lambda: parts.improved(best))

    def _save_if_due(self, phase: Phase) -> None:
        every = self.parts.save_every
        if every.seconds is not None:
            late = self.keeper.seconds_since_save() >= every.seconds
            due = bool(self.parts.distribution.first(late))
        else:
            due = self._left(every, phase) == every.steps(phase.steps_per_epoch, phase.steps)
        if due:
            self.keeper.save(self.position, self.metrics)

    def leave_if_asked(self) -> None:
        """Saves and raises StoppedEarly if any rank was asked to stop."""
        parts = self.parts
        parts.watch.alive()
        self.keeper.check()
        if not parts.distribution.agree(parts.stop.requested is not None):
            return
        self.keeper.averages.hide()  # a validation may be under way
        # What is saved of a step belongs to the phase that did it, not to one that is to begin.
        if self.position.phase_step > 0 or not self.keeper.has_saved(self.position.step):
            self.keeper.save(self.position, self.metrics, planned=False)
        self.keeper.settle()
        reason = parts.stop.requested or "another rank was asked to"
        raise StoppedEarly(
            f"stopped at step {self.position.step} ({reason}); it is saved",
            action="run the same command again to continue",
        )

    def _until_due(self, phase: Phase) -> list[int]:
        wanted = (self.parts.log_every, self.parts.save_every)
        return [self._left(every, phase) for every in wanted if every.seconds is None]

    def _left(self, every: Duration, phase: Phase) -> int:
        """Steps until something is due that is due ``every`` so often; all of them right after.
        Epochs and percentages count from the phase's beginning, since phases may differ in them.
        """
        steps = every.steps(phase.steps_per_epoch, phase.steps)
        done = self.position.step if every.unit == "steps" else self.position.phase_step
        return steps - done % steps

    def _write(
        self, figures: dict[str, float], split: str, phase: Phase, *, epoch_end: bool
    ) -> None:
        if split == "train":
            figures = figures | self._rates.figures(phase, self.position.phase_step)
        self.parts.writer.scalars(
            self.position.step,
            figures,
            split=split,
            epoch=self.position.last_epoch(phase),
            phase=phase.name,
            epoch_end=epoch_end,
        )
