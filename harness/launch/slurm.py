"""SLURM's commands, called without a shell and without what an outer job has left behind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

from harness.errors import EnvironmentNotAble
from harness.launch.commands import call

# Variables that say which SLURM is meant and who asks it, not what is wanted of it.
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
# Defaults of every command (SBATCH_PARTITION beats an #SBATCH line, SQUEUE_FORMAT changes what we
# parse) and what describes a job that we may be inside of.
_SCHEDULER = (
    "SLURM",
    "SBATCH_",
    "SRUN_",
    "SALLOC_",
    "SQUEUE_",
    "SACCT_",
    "SCANCEL_",
    "SCONTROL_",
    "SINFO_",
    "SSTAT_",
)
_DOWN = (
    "Unable to contact slurm controller",
    "Connection refused",
    "slurm_load",
    "Protocol authentication error",
)
_UNHEARD = ("Socket timed out", "Zero Bytes were transmitted", "Transport endpoint")
_TIMEOUT_S = 60.0
_PING_S = 20.0


class NoAnswer(EnvironmentNotAble):
    """SLURM was asked and its answer did not come: what was asked for may have been done."""


class SlurmError(Exception):
    """A SLURM command said no; ``command`` is its name, the text what it wrote."""

    def __init__(self, command: str, code: int, text: str) -> None:
        self.command = command
        self.code = code
        super().__init__(text)


def slurm_variables(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that SLURM's commands must not see, sorted."""
    return sorted(name for name in environment if name.startswith(_SCHEDULER) and name not in _KEPT)


class Slurm:
    """The SLURM that the environment leads to.

    Args:
        environment: variables of the calling process; the present ones if None.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = dict(os.environ if environment is None else environment)
        self.hidden = slurm_variables(variables)
        """Variables of the shell that were not let through."""
        self.environment = {k: v for k, v in variables.items() if k not in self.hidden}
        self.environment["LC_ALL"] = "C"
        self._answers = False

    def has(self, command: str) -> bool:
        """Whether the command is installed."""
        return shutil.which(command, path=self.environment.get("PATH")) is not None

    def require(self) -> None:
        """Raises EnvironmentNotAble unless jobs can be submitted from here."""
        missing = [name for name in ("sbatch", "srun", "squeue", "scontrol") if not self.has(name)]
        if missing:
            raise EnvironmentNotAble(
                "there is no SLURM on this machine",
                got=f"no {', '.join(missing)} on the PATH",
                allowed="a login node of a cluster, or a site with scheduler: local",
                action="log in to the cluster and submit there, or train here with "
                "`harness run SPEC` or `harness submit SPEC --site local`",
            )

    def ping(self) -> None:
        """Asks once whether the controller is up.

        Alone among SLURM's commands this one says at once that nobody answers; sbatch and squeue
        try again for a minute and more.

        Raises:
            EnvironmentNotAble: it is not.
        """
        if self._answers:
            return
        try:
            done = self.run("scontrol", "ping", check=False, timeout_s=_PING_S)
        except NoAnswer as error:
            raise controller_down(str(error.problems[0].got)) from None
        if not re.search(r"\bis UP\b", done.stdout):
            said = done.stdout.strip().partition("\n")[0]
            raise controller_down(said or last_line(done.stderr))
        self._answers = True

    def run(
        self,
        *words: str,
        check: bool = True,
        timeout_s: float = _TIMEOUT_S,
        environment: Mapping[str, str] | None = None,
        umask: int = -1,
    ) -> subprocess.CompletedProcess[str]:
        """Runs one command and gives what it printed.

        Args:
            environment: other variables than the usual ones, for what hands them on to a job.
            umask: of the command; -1 is that of this process.

        Raises:
            EnvironmentNotAble: it is not installed or cannot be run, does not answer in time, or
                the controller cannot be reached.
            SlurmError: with ``check``, it refused; the text is its own.
        """
        try:
            given = self.environment if environment is None else environment
            done = call(words, given, timeout_s, umask)
        except FileNotFoundError:
            self.require()
            raise EnvironmentNotAble(
                f"{words[0]} is not installed here", action="ask the cluster's operators"
            ) from None
        except OSError as error:
            raise EnvironmentNotAble(
                f"{words[0]} cannot be run here",
                got=error.strerror or type(error).__name__,
                action=f"`type {words[0]}` shows which one it is; ask the cluster's operators",
            ) from error
        except subprocess.TimeoutExpired:
            raise no_answer(f"{words[0]} gave no answer within {timeout_s:g} s") from None
        if done.returncode and any(sign in done.stderr for sign in _UNHEARD):
            raise no_answer(last_line(done.stderr))
        if done.returncode and any(sign in done.stderr for sign in _DOWN):
            raise controller_down(last_line(done.stderr))
        if check and done.returncode:
            raise SlurmError(words[0], done.returncode, last_line(done.stderr or done.stdout))
        return done


def controller_down(said: str) -> EnvironmentNotAble:
    """The error for a SLURM whose controller does not answer."""
    return EnvironmentNotAble(
        "SLURM does not answer",
        got=said,
        action="try again in some minutes (`scontrol ping` says whether its controller is up); if "
        "it never answers, this is no login node of a cluster, or SLURM_CONF is missing or wrong",
    )


def no_answer(said: str) -> NoAnswer:
    """The error for a SLURM that was asked and has not answered."""
    return NoAnswer(
        "SLURM does not answer",
        got=said,
        action="look with `squeue --me` whether it was done all the same, before you try again",
    )


def last_line(text: str) -> str:
    """The last line of what a command wrote, which holds its reason, without its own name."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it gave no reason"
    line = lines[-1]
    for opening in ("sbatch: error: ", "scancel: error: ", "scontrol: error: ", "squeue: error: "):
        line = line.removeprefix(opening)
    return line
