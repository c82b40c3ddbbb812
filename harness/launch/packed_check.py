"""Whether the packed data that a spec names are whole, looked at before anything is queued.

Storage that deletes old files takes some of a set and leaves the rest; a job that waits a day in
the queue should not be the one to find out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DataError, Problem
from harness.spec.existence import placed

if TYPE_CHECKING:
    from harness.spec import Resolved


def check_packed(resolved: Resolved) -> None:
    """Looks for every file of the packed sets of a spec, and its size.

    Raises:
        DataError: some are missing, cut or of another version; each with the line of its field.
    """
    data = resolved.spec.data
    if data.source is not None:
        return  # what the paths mean is the plug-in's affair
    problems: list[Problem] = []
    for name in ("train", "validation", "test"):
        path = getattr(data, name)
        # Looked at first: what opens a set needs numpy, which takes its time to import.
        if isinstance(path, str) and any(
            Path(path, inside).exists() for inside in ("index.json", ".packing")
        ):
            problems += [
                placed(f"data.{name}", problem, resolved) for problem in _problems_of(Path(path))
            ]
    if problems:
        raise DataError(problems)


def _problems_of(path: Path) -> list[Problem]:
    from harness.data.packed import is_packed, open_packed

    if not is_packed(path):
        return []
    try:
        open_packed(path)
    except DataError as error:
        return [replace(problem, path=None) for problem in error.problems]
    return []
