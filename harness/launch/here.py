"""Training in the present process: ``harness run`` and ``harness.run``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.distribute.topology import Topology
from harness.errors import HarnessError
from harness.runs.create import create_run
from harness.runs.figures import figure
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.runs.state import record_metrics, run_state
from harness.spec import load_spec, load_user_config
from harness.worker.ranks import Ranks

if TYPE_CHECKING:
    from harness.deploy.predict import Prediction


@dataclass(frozen=True)
class Result:
    """A finished run.

    ``metrics`` holds its final figures by name (``test_accuracy``, ``val_loss``, ...).
    """

    path: Path
    run_id: str
    state: str
    metrics: dict[str, float] = field(default_factory=dict)

    def predict(self, *files: str | os.PathLike[str]) -> list[Prediction]:
        """Labels and probabilities of picture files (or folders of them), by the best weights.

        Raises:
            DataError: a file or folder does not exist.
        """
        from harness.spec import load_user_config
        from harness.worker.load import load_run

        loaded = load_run(RunPaths(self.path), load_user_config().trust)
        return list(loaded.predict([os.fspath(name) for name in files]))

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "path": str(self.path),
            "run_id": self.run_id,
            "state": self.state,
            "metrics": self.metrics,
        }


def run(
    spec: str | os.PathLike[str] | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    run_dir: str | os.PathLike[str] | None = None,
    runs_root: str | os.PathLike[str] | None = None,
    site: str | None = None,
    new: bool = False,
    quiet: bool = False,
) -> Result:
    """Trains a spec in this process and returns its result.

    Args:
        spec: path of a YAML file, or the same as nested dicts.
        overrides: dotted path to value, as ``-o`` on the command line.
        run_dir: directory of the run; one that holds a run of an equal spec is continued.
        runs_root: where runs go otherwise; by default ``$HARNESS_RUNS_ROOT``, the user's
            config, or ``./runs``.
        new: begins a new run even where one could be continued.
        quiet: shows no progress.

    Raises:
        SpecError, DataError, StorageError, EnvironmentNotAble, TrainingError: each says what is
            wrong and what to do next.
        StoppedEarly: a signal came; everything is saved, and the same call continues.

    In a process that is one of several ranks (under srun, mpirun, ...) it trains together with
    them, and ends the process when another rank is lost.
    """
    return run_spec(
        spec,
        overrides=overrides,
        site=site,
        run_dir=run_dir,
        runs_root=runs_root,
        new=new,
        owns_process=False,
        quiet=quiet,
    )


def run_spec(
    spec: str | os.PathLike[str] | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | Sequence[str],
    site: str | None,
    run_dir: str | os.PathLike[str] | None,
    runs_root: str | os.PathLike[str] | None,
    new: bool,
    owns_process: bool,
    plain: bool | None = None,
    quiet: bool = False,
) -> Result:
    """See :func:`run`; ``owns_process`` and ``plain`` as in :func:`harness.worker.attempt`."""
    ranks = Ranks(Topology.from_environment(os.environ), _say)
    ranks.meet(os.environ, None)
    say = _nothing if quiet or not ranks.first else _say

    create = partial(_create, spec, overrides, site, run_dir, runs_root, new, say)
    try:
        # One makes the run for all ranks.
        root, how = ranks.from_first("run", create)
    except HarnessError as error:
        ranks.break_up(str(error), int(error.exit_code))
        raise
    paths = RunPaths(Path(root))
    if how != "finished":
        from harness.worker.attempt import run_attempt

        run_attempt(
            paths,
            load_user_config().trust,
            say=say,
            owns_process=owns_process,
            plain=plain,
            quiet=quiet,
            ranks=ranks,
        )
    else:
        ranks.dismiss()
    return result_of(paths)


def _create(
    spec: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Mapping[str, Any] | Sequence[str],
    site: str | None,
    run_dir: str | os.PathLike[str] | None,
    runs_root: str | os.PathLike[str] | None,
    new: bool,
    say: Callable[[str], None],
) -> tuple[str, str]:
    """Root of the run, and whether it is created, continued or finished."""
    source = spec if isinstance(spec, Mapping) else os.fspath(spec)
    paths, how = create_run(
        load_spec(source, overrides=overrides, site=site),
        Path(run_dir) if run_dir is not None else None,
        new=new,
        runs_root=Path(runs_root) if runs_root is not None else None,
        say=say,
    )
    say(f"{_WORDS[how]} {paths.root}")
    return str(paths.root), how


_WORDS = {
    "created": "new run",
    "continued": "continues the run",
    "finished": "this run is finished, there is nothing to do:",
}


def result_of(paths: RunPaths) -> Result:
    """What a run directory says of its result."""
    record = read_record(paths)
    state = run_state(paths, record)
    return Result(paths.root, record["run_id"], state.word, record_metrics(record))


def summary(result: Result) -> str:
    """Where the run is, how good, and what to do next."""
    of_test = ("accuracy", "f1", "mae", "r2", "loss")
    shown = (*(f"test_{name}" for name in of_test), "val_accuracy", "val_mae", "val_loss")
    figures = "  ".join(
        f"{name} {figure(result.metrics[name])}" for name in shown if name in result.metrics
    )
    where = os.path.relpath(result.path)
    return "\n".join(
        (
            f"run       {where}",
            f"result    {figures or result.state}",
            f"next      harness predict {where} FILES...",
            f"          harness export {where}",
            f"          tensorboard --logdir {where}/tensorboard",
        )
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _nothing(text: str) -> None:
    """Quiet."""
