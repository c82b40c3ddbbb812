"""Whether a resumed run would repeat an undisturbed one to the last bit, and if not, why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.errors import SpecError
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record


class Exactness:
    """Gathers reasons against an exact resume into ``run.json``, each said once.

    Args:
        paths: the run; None on a rank that does not write: rank 0 finds the same reasons.
        deterministic: ``training.deterministic``: a reason is an error then.
        say: tells the user.
    """

    def __init__(
        self, paths: RunPaths | None, deterministic: bool, say: Callable[[str], None]
    ) -> None:
        self._paths = paths
        self._known: list[str] = []
        self._deterministic = deterministic
        self._say = say

    def not_exact(self, reasons: Sequence[str]) -> None:
        """Takes note of reasons.

        Raises:
            SpecError: ``training.deterministic`` is true and there is one.
        """
        known = self._known
        if self._paths is not None:
            known = read_record(self._paths)["not_exact_because"]
        new = [reason for reason in reasons if reason not in known]
        if not new:
            return
        self._known = [*known, *new]
        if self._paths is not None:
            update_record(self._paths, exact=False, not_exact_because=self._known)
        if self._deterministic:
            raise SpecError(
                "training.deterministic is true, and something in this run cannot be repeated",
                got="; ".join(new),
                allowed="draws that are functions of their seed (docs: plug-ins, exact resume)",
                action="change it as the docs show, or set training.deterministic: false",
                path="training.deterministic",
            )
        self._say(f"a resume of this run will not be exact: {'; '.join(new)}")
