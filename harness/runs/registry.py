"""Finding runs: the run directories below a root are the registry, there is no other."""

from __future__ import annotations

import datetime
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import StorageError, UsageError
from harness.runs.attempts import Attempt
from harness.runs.clock import UTC
from harness.runs.ids import looks_like_run_id
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.runs.state import run_state
from harness.runs.storage import storage_error

BROKEN = "broken"


def runs_root(flag: str | Path | None = None, user_config: str | Path | None = None) -> Path:
    """Where runs are kept: the flag > $HARNESS_RUNS_ROOT > user config > ``./runs``; absolute."""
    chosen = flag or os.environ.get("HARNESS_RUNS_ROOT") or user_config or "runs"
    return Path(os.path.abspath(Path(chosen).expanduser()))  # noqa: PTH100 - keep links


@dataclass(frozen=True)
class RunSummary:
    """A row of ``harness list``.  ``state`` is a word of a run state, or ``broken``.

    ``last`` and ``locked`` are those of :class:`harness.runs.state.RunState`, for those who join
    the row with what a scheduler says; they are not shown.
    """

    run_id: str
    name: str
    path: str
    state: str
    reason: str | None = None
    attempt: int | None = None
    step: int | None = None
    total_steps: int | None = None
    best: dict[str, Any] | None = None
    final: dict[str, float] | None = None
    created: str | None = None
    updated: str | None = None
    last: Attempt | None = None
    locked: bool = False

    def as_json(self) -> dict[str, Any]:
        """The row for ``--json``."""
        row = asdict(self)
        del row["last"], row["locked"]
        return row


def summarize(paths: RunPaths) -> RunSummary:
    """The row of one run; one that cannot be read is ``broken`` with the reason, no error."""
    guess = (paths.root.name, paths.root.parent.name, str(paths.root))
    try:
        record = read_record(paths)
        state = run_state(paths, record)
        return RunSummary(
            str(record.get("run_id") or guess[0]),
            str(record.get("name") or guess[1]),
            guess[2],
            state.word,
            state.reason,
            state.attempt,
            state.step,
            state.total_steps,
            record.get("best"),
            record.get("final"),
            record.get("created"),
            state.updated,
            state.last,
            state.locked,
        )
    except StorageError as error:
        return RunSummary(*guess, BROKEN, error.problems[0].what)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        # The JSON is valid and its values are not what they should be: somebody else's files.
        return RunSummary(*guess, BROKEN, f"run.json or a file beside it is no harness's: {error}")


def find_runs(root: Path) -> list[RunPaths]:
    """Runs in ``root`` and in its folders (``<root>/<name>/<run_id>``), newest first.

    Opens no file of a run.  A folder counts as a run when it is named like a run id or holds
    a ``run.json``; a folder that may not be looked into counts too, so that it is shown.  A
    root that is not there has no runs.

    Raises:
        StorageError: the root is there and cannot be read.
    """
    found = []
    for name, folder in _folders(Path(root)):
        if _is_run(name, folder):
            found.append(folder)
            continue
        try:
            found += [inner for inner_name, inner in _folders(folder) if _is_run(inner_name, inner)]
        except StorageError:
            found.append(folder)
    return [RunPaths(folder) for folder in sorted(found, key=_age_key, reverse=True)]


def runs_in(folder: Path) -> list[RunPaths]:
    """Runs that lie directly in ``folder`` (that of a spec's name), newest first.

    Raises:
        StorageError: the folder is there and cannot be read.
    """
    found = [inner for name, inner in _folders(Path(folder)) if _is_run(name, inner)]
    return [RunPaths(inner) for inner in sorted(found, key=_age_key, reverse=True)]


def chosen_root(flag: str | Path | None = None) -> Path:
    """As :func:`runs_root`; reads the user config if neither flag nor variable says it.

    Raises:
        SpecError: the user config is invalid.
    """
    if flag or os.environ.get("HARNESS_RUNS_ROOT"):
        return runs_root(flag)
    from harness.spec import load_user_config

    return runs_root(None, load_user_config().runs_root)


def resolve_run(text: str | Path, root: Path) -> RunPaths:
    """The run that ``text`` names.

    Tried in this order: a path of a run; a run id; a spec name, which means its newest run;
    the beginning of exactly one run id; ``name/run_id``.

    Raises:
        UsageError: no run, or more than one, is named so.
        StorageError: the root cannot be read.
    """
    text = str(text)
    path = Path(text).expanduser()
    if path.is_dir() and (path / "run.json").exists():
        return RunPaths(path)
    runs = find_runs(root)
    exact = [run for run in runs if run.root.name == text]
    named = [run for run in runs if run.root.parent.name == text and run.root.parent != root]
    begun = [run for run in runs if text and run.root.name.startswith(text)]
    full = [run for run in runs if f"{run.root.parent.name}/{run.root.name}" == text]
    for matches, newest in ((exact, False), (named, True), (begun, False), (full, False)):
        if matches and (newest or len(matches) == 1):
            return matches[0]
        if matches:
            raise _ambiguous(text, matches)
    return _by_record(text, runs, root)


def _by_record(text: str, runs: list[RunPaths], root: Path) -> RunPaths:
    """A run whose folder is named otherwise (moved, or made with --run-dir)."""
    rows = [(run, summarize(run)) for run in runs]
    for matches in (
        [run for run, row in rows if row.run_id == text],
        [run for run, row in rows if row.name == text][:1],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise _ambiguous(text, matches)
    known = ", ".join(sorted({row.name for _run, row in rows})[:10])
    raise UsageError(
        "no run is named so",
        got=repr(text),
        allowed="a run directory, a run id or its beginning, or a spec name"
        + (f"; names in {root}: {known}" if known else f"; {root} has no runs"),
        action="`harness list` shows the runs; --runs-root looks in another place",
    )


def _ambiguous(text: str, matches: list[RunPaths]) -> UsageError:
    shown = ", ".join(str(run.root) for run in matches[:5])
    more = f" and {len(matches) - 5} more" if len(matches) > 5 else ""
    return UsageError(
        f"{len(matches)} runs are named so",
        got=f"{text!r}: {shown}{more}",
        action="give more of the run id, or the path",
    )


def _folders(root: Path) -> list[tuple[str, Path]]:
    try:
        with os.scandir(root) as entries:
            return [
                (entry.name, Path(entry.path))
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir()
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(error, root) from error


def _is_run(name: str, folder: Path) -> bool:
    if looks_like_run_id(name):
        return True
    try:
        return (folder / "run.json").exists()
    except OSError:
        return True  # it may not be looked into: shown as broken rather than left out


def _age_key(folder: Path) -> tuple[str, str]:
    """Run ids sort by time; a folder with another name by when it was last changed."""
    if looks_like_run_id(folder.name):
        return folder.name[:15], folder.name
    try:
        changed = folder.stat().st_mtime
    except OSError:
        changed = 0.0
    when = datetime.datetime.fromtimestamp(changed, UTC)
    return f"{when:%Y%m%d-%H%M%S}", folder.name
