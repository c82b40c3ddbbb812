"""What can go wrong, in the user's words: one problem, one paragraph, one exit code.

Every error a user can cause or meet is a :class:`HarnessError`.  It is printed without a
traceback (unless ``--debug``) and its class decides the exit code of the process.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class ExitCode(enum.IntEnum):
    """Exit codes of every verb; scripts and schedulers rely on them."""

    DONE = 0
    TRAINING_FAILED = 1
    USAGE = 2
    ENVIRONMENT = 3
    DATA = 4
    STORAGE = 5
    STOPPED = 75


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, what was found, what is allowed, what to do next.

    ``path`` is the dotted path of a spec field (``data.image_size``); ``file`` and ``line``
    (1-based) say where it was written.  Only ``what`` is always there.
    """

    what: str
    got: str | None = None
    allowed: str | None = None
    action: str | None = None
    path: str | None = None
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = ""
        if self.file:
            place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        if self.path:
            place += f"{self.path}: "
        text = place + self.what
        if self.got is not None:
            text += f", got {self.got}"
        if self.allowed is not None:
            text += f", allowed: {self.allowed}"
        if self.action is not None:
            text += f"; next: {self.action}"
        return text


class HarnessError(Exception):
    """Base of all errors meant for the user; carries one or more problems.

    Args:
        what: the sentence that says what is wrong, or ready-made problems.
        got, allowed, action, path: see :class:`Problem`; only with a ``what`` in words.
    """

    exit_code = ExitCode.TRAINING_FAILED

    def __init__(
        self,
        what: str | Problem | Iterable[Problem],
        *,
        got: str | None = None,
        allowed: str | None = None,
        action: str | None = None,
        path: str | None = None,
    ) -> None:
        problems: tuple[Problem, ...]
        if isinstance(what, str):
            problems = (Problem(what, got=got, allowed=allowed, action=action, path=path),)
        elif isinstance(what, Problem):
            problems = (what,)
        else:
            problems = tuple(what)
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    def __reduce__(self) -> tuple[type[HarnessError], tuple[tuple[Problem, ...]]]:
        # Exceptions pickle by their args; ours are built from the problems instead.
        return (type(self), (self.problems,))


class TrainingError(HarnessError):
    """Training itself failed: a loss that is not finite, a step that raised."""

    exit_code = ExitCode.TRAINING_FAILED


class UsageError(HarnessError):
    """The command line or the run it names does not fit."""

    exit_code = ExitCode.USAGE


class FencedOff(UsageError):
    """Another start of the run has taken over; this one must not write any more."""


class SpecError(UsageError):
    """The spec is invalid; holds every problem found, not only the first."""


class EnvironmentNotAble(HarnessError):
    """The machine or the installation cannot do what was asked (no GPU, no TensorFlow)."""

    exit_code = ExitCode.ENVIRONMENT


class DataError(HarnessError):
    """Data or backbone cannot be used."""

    exit_code = ExitCode.DATA


class StorageError(HarnessError):
    """Storage is full, over quota, or not writable."""

    exit_code = ExitCode.STORAGE


class StoppedEarly(HarnessError):
    """Stopped on a signal or a time limit, after saving; the run can be continued."""

    exit_code = ExitCode.STOPPED
