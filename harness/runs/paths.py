"""`RunPaths`: the one place that knows the file names of a run.

Every name is below ``root`` and nothing inside a run holds an absolute path of its own, so a run
can be moved as a whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.runs.files import make_dir


@dataclass(frozen=True)
class RunPaths:
    """Names of the files of the run in ``root`` (made absolute).  Looks at no file itself."""

    root: Path

    def __post_init__(self) -> None:
        # Not resolve(): names behind an automounter's links are not those other nodes know.
        object.__setattr__(self, "root", Path(os.path.abspath(self.root)))  # noqa: PTH100

    @classmethod
    def create(cls, root: Path, access: str) -> RunPaths:
        """Makes the folder of a run and those that every run has, with the mode of ``access``.

        Raises:
            StorageError: a folder cannot be made.
        """
        paths = cls(root)
        for folder in (paths.root, paths.checkpoints, paths.tensorboard, paths.slurm):
            make_dir(folder, access)
        return paths

    @property
    def spec(self) -> Path:
        """The resolved spec."""
        return self.root / "spec.yaml"

    @property
    def record(self) -> Path:
        """The run record; written last at creation, so a folder with it is a whole run."""
        return self.root / "run.json"

    @property
    def record_before(self) -> Path:
        """The record as it was before its last change, for when a disk has spoilt it."""
        return self.root / ".run.json.before"

    @property
    def environment_lock(self) -> Path:
        """Installed distributions at creation, ``name==version`` a line."""
        return self.root / "environment.lock"

    @property
    def git_diff(self) -> Path:
        """Uncommitted changes of the spec's repository at creation; only if there were any."""
        return self.root / "git.diff"

    @property
    def attempts(self) -> Path:
        """Begin and end of every attempt, one JSON object a line."""
        return self.root / "attempts.jsonl"

    @property
    def heartbeat(self) -> Path:
        """Where the training is now."""
        return self.root / "heartbeat.json"

    @property
    def metrics(self) -> Path:
        """Metrics, one JSON object a line."""
        return self.root / "metrics.jsonl"

    @property
    def metrics_superseded(self) -> Path:
        """Metric lines of steps that a restore went back behind."""
        return self.root / "metrics.superseded.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.root / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.root / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint of one step."""
        return self.checkpoints / f"step-{step:08d}"

    @property
    def adapted(self) -> Path:
        """Folder of the best weights with the batch-norm statistics of a target, as a checkpoint;
        only if the run adapts such."""
        return self.root / "adapted"

    @property
    def slurm(self) -> Path:
        """Folder of submission scripts, logs and outcomes."""
        return self.root / "slurm"

    @property
    def jobs(self) -> Path:
        """What was submitted for the run, one JSON object a line."""
        return self.slurm / "jobs.jsonl"

    @property
    def submit_lock(self) -> Path:
        """Locked while a job is being submitted for the run."""
        return self.slurm / ".submit-lock"

    @property
    def prepared_script(self) -> Path:
        """The batch script of ``submit --prepare``, which somebody submits by hand."""
        return self.slurm / "prepared_submission.sh"

    @property
    def cancelled(self) -> Path:
        """There once the user has cancelled: what stops then is not to go on by itself."""
        return self.slurm / "CANCELLED"

    @property
    def without_progress(self) -> Path:
        """Newest checkpoint at the end of each attempt that got no further, one a line."""
        return self.slurm / "without-progress"

    def job_log(self, job: str, rank: int, stream: str) -> Path:
        """What one rank of a job printed, over all its starts, as submitit names it.

        Args:
            job: the scheduler's id; ``123_4`` is task 4 of array 123.
            stream: ``out``, which for rank 0 holds the batch script's output too, or ``err``.
        """
        return self.slurm / f"{job}_{rank}_log.{stream}"

    def outcome(self, attempt: int) -> Path:
        """How an attempt ended, written after all ranks have left the training."""
        return self.slurm / f"outcome-{attempt}.json"

    @property
    def export(self) -> Path:
        """Folder of the exported model."""
        return self.root / "export"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.root / "report.html"

    @property
    def finished(self) -> Path:
        """There once the run is done."""
        return self.root / "FINISHED"

    @property
    def failed(self) -> Path:
        """There once the run has failed; says why."""
        return self.root / "FAILED"

    @property
    def plugins(self) -> Path:
        """Folder of the plug-in files as they were at creation."""
        return self.root / "plugins"

    @property
    def corrupt(self) -> Path:
        """Examples that could not be read, one JSON object a line."""
        return self.root / "corrupt.jsonl"

    @property
    def lock(self) -> Path:
        """Locked by the process that trains; names its host and pid."""
        return self.root / ".lock"

    @property
    def log(self) -> Path:
        """What the training said."""
        return self.root / "harness.log"
