"""submitit's executors, with their submission made safe.

What is ours: the variables of the shell that do not belong into a job are not handed on, the
script waits for its ranks as ``protocol.sh`` needs it, nothing is left behind by a submission that
failed, and a local job does not hold on to the terminal of whoever submitted it.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedSubmissionError
from submitit.local.local import LocalExecutor, LocalJob
from submitit.slurm.slurm import SlurmExecutor, SlurmJob

from harness.distribute.meeting import SECRET
from harness.errors import EnvironmentNotAble
from harness.launch.scrubbed import scrubbed
from harness.launch.slurm import Slurm, no_answer
from harness.runs.files import write_atomic
from harness.worker.entry import SAFE_PATH

LOCAL_LOG = "local.log"
"""What the controller of local jobs prints, in the folder of the jobs."""

_RUN = "import runpy; runpy.run_module('submitit.local._local', run_name='__main__')"
_CONTROLLER = SAFE_PATH + _RUN


class RunSlurmExecutor(SlurmExecutor):
    """Submits the batch script of :mod:`harness.launch.script`.

    Args:
        folder: ``slurm/`` of the run.
        slurm: the cluster.
        step: shell command of the step.
        umask: of the files that the job makes.
    """

    def __init__(self, folder: Path, slurm: Slurm, step: str, umask: int) -> None:
        super().__init__(folder)
        self._slurm = slurm
        self._step = step
        self._umask = umask
        self.job_id: str | None = None
        """Id of the job once SLURM has taken it, whatever fails after that."""

    @classmethod
    def affinity(cls) -> int:
        """submitit asks for srun on its own PATH; :meth:`Slurm.require` has looked properly."""
        return 2

    @property
    def _submitit_command_str(self) -> str:
        return self._step

    def text(self) -> str:
        """The whole batch script."""
        return str(self._make_submission_file_text(self._step, ""))

    def submit_alone(self) -> str:
        """Submits the script, whose step makes no pickled call; the job's id.

        Raises:
            SlurmError, EnvironmentNotAble: see :meth:`Slurm.run`.
        """
        return str(self._submit_command(self._step).job_id)

    def _submit_command(self, command: str) -> SlurmJob[Any]:
        """As submitit's, but leaves no second name of the script, and no script of no job."""
        file = self.folder / f".submission-{uuid.uuid4().hex}.tmp"
        write_atomic(file, self._make_submission_file_text(command, ""))
        try:
            done = self._slurm.run(
                "sbatch", str(file), environment=job_variables(), umask=self._umask
            )
            self.job_id = job_id = self._id_of(done.stdout)
            job: SlurmJob[Any] = SlurmJob(self.folder, job_id, list(range(self._num_tasks())))
            file.rename(self.folder / f"{job_id}_submission.sh")
        finally:
            file.unlink(missing_ok=True)
        return job

    def _id_of(self, said: str) -> str:
        try:
            return str(self._get_job_id_from_submission_command(said))
        except FailedSubmissionError:
            raise no_answer(f"sbatch tells no job id: {said.strip()[:200]!r}") from None


def job_variables() -> dict[str, str]:
    """The variables that sbatch hands on to the job; see :func:`scrubbed`."""
    without = scrubbed(os.environ, sys.prefix)
    kept = {name: value for name, value in os.environ.items() if name not in without.removed}
    return {**kept, "PATH": without.path}


class RunLocalExecutor(LocalExecutor):
    """Starts the ranks on this machine, under submitit's controller process.

    Args:
        folder: ``slurm/`` of the run.
        call: the command of one rank, as words.
        umask: of the files that the job makes.
    """

    def __init__(self, folder: Path, call: list[str], umask: int) -> None:
        super().__init__(folder)
        self._call = call
        self._umask = umask

    @property
    def _submitit_command_str(self) -> str:
        return shlex.join(self._call)

    def _submit_command(self, command: str) -> LocalJob[Any]:
        """As submitit's, in a session of its own: a closed terminal or a reader of our output
        has nothing to do with the job."""
        asked = self.parameters
        variables = {
            **job_variables(),
            "SUBMITIT_LOCAL_NTASKS": str(asked.get("tasks_per_node", 1)),
            "SUBMITIT_LOCAL_COMMAND": command,
            "SUBMITIT_LOCAL_TIMEOUT_S": str(int(60 * asked["timeout_min"])),
            "SUBMITIT_LOCAL_SIGNAL_DELAY_S": str(int(asked["signal_delay_s"])),
            "SUBMITIT_LOCAL_NODEID": "0",
            "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
            "SUBMITIT_STDERR_TO_STDOUT": "",
            "SUBMITIT_EXECUTOR": "local",
            "SUBMITIT_LOCAL_WITH_SHELL": "",
            SECRET: secrets.token_hex(16),
        }
        # The devices that this shell may use are those that a local job may.
        if "CUDA_VISIBLE_DEVICES" in os.environ:
            variables["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"]
        words = [sys.executable, "-c", _CONTROLLER, str(self.folder)]
        with (self.folder / LOCAL_LOG).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - a list of words, no shell
                words,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=self._umask,
            )
        tasks = list(range(asked.get("tasks_per_node", 1)))
        job: LocalJob[Any] = LocalJob(
            folder=self.folder, job_id=str(process.pid), process=process, tasks=tasks
        )
        if process.poll() is not None:
            raise EnvironmentNotAble(
                "the local job ended at once", got=(self.folder / LOCAL_LOG).read_text()[-500:]
            )
        return job
