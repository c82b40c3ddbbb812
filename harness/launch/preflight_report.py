"""What the checks before a submission find, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.errors import EnvironmentNotAble, HarnessError, Problem, SpecError, StorageError
from harness.spec import Resolved
from harness.spec.existence import placed


@dataclass(frozen=True)
class Preflight:
    """The result of all checks.

    ``errors`` holds at most one error of each class, each with all problems of its kind;
    ``notes`` says what could not be checked, what was only estimated, and which defaults will
    hold; ``seconds`` is the wall time that the checks took.
    """

    errors: tuple[HarnessError, ...]
    notes: tuple[str, ...]
    seconds: float

    def raise_if_bad(self) -> None:
        """Raises one error with all problems, if there are any.

        Raises:
            SpecError: the spec, the account or the place asks for what the cluster has not,
                whatever else is wrong too.
            EnvironmentNotAble: SLURM is missing or does not answer.
            StorageError: only space, files or quota are the matter.
        """
        found = [problem for error in self.errors for problem in error.problems]
        for kind in (SpecError, EnvironmentNotAble, StorageError):
            if any(isinstance(error, kind) for error in self.errors):
                raise kind(found)
        assert not self.errors, f"errors of an unknown class: {self.errors}"


@dataclass
class Report:
    """Collects what the checks find, each field's problems with its file and line."""

    resolved: Resolved
    wrong: list[Problem] = field(default_factory=list)
    storage: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        path: str | None,
        what: str,
        got: str | None = None,
        allowed: str | None = None,
        action: str | None = None,
    ) -> None:
        """A problem with what is asked for; ``path`` is the field that asks, if one does."""
        problem = Problem(what, got, allowed, action)
        self.wrong.append(problem if path is None else placed(path, problem, self.resolved))

    def note(self, text: str) -> None:
        """Something worth knowing that stops nothing; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def names(self, *paths: str) -> bool:
        """Whether a problem of one of these fields was found already."""
        return any(problem.path in paths for problem in self.wrong)

    def finish(self, seconds: float) -> Preflight:
        """All of it; the problems in the order of the lines that they are about."""
        errors: list[HarnessError] = []
        if self.wrong:
            errors.append(SpecError(sorted(self.wrong, key=lambda p: (p.file or "", p.line or 0))))
        if self.storage:
            errors.append(StorageError(self.storage))
        return Preflight(tuple(errors), tuple(self.notes), seconds)
