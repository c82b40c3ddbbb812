"""What can be asked of a running test cluster, with SLURM's own commands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.cluster.configuration import NODES, Configuration
from tests.cluster.processes import ClusterError, wait_until

SCHEDULER_VARIABLES = ("SLURM", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_")
ENDED = frozenset({"CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "PREEMPTED", "TIMEOUT"}) | {
    "BOOT_FAIL",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
}


class Client:
    """SLURM's commands against the cluster whose files lie in ``folder``."""

    def __init__(self, folder: Path, configuration: Configuration) -> None:
        self.folder = folder
        self.configuration = configuration

    def environment(self, **more: str) -> dict[str, str]:
        """This process's environment, with this cluster instead of any other, and ``more``.

        ``slurm.conf`` names the socket of the cluster's own munged, so nothing else is needed.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith(SCHEDULER_VARIABLES)}
        # Debian keeps the daemons, and sometimes tools, where a user's PATH does not lead.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
        return {**kept, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf"), **more}

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 60, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command, SLURM's or another, in the cluster's environment.

        Raises :class:`ClusterError` with what the command wrote, if ``check`` and it failed.
        """
        done = subprocess.run(
            command,
            env=self.environment(),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            wrote = f"{done.stdout}{done.stderr}".strip()
            raise ClusterError(f"{' '.join(command)} ended with {done.returncode}: {wrote}")
        return done

    def submit(self, *arguments: str, cwd: Path | None = None) -> str:
        """``sbatch`` with these arguments; the job's id.

        Without ``cwd``, a job works and writes its log in the cluster's folder.
        """
        done = self.run("sbatch", "--parsable", *arguments, cwd=cwd or self.folder)
        return done.stdout.strip().split(";")[0]

    def job(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says: ``JobState``, ``Reason``, ``Restarts``, ...

        Empty when the controller no longer knows the job.
        """
        shown = self.run("scontrol", "--oneliner", "show", "job", job, check=False).stdout
        return dict(re.findall(r"(?:^| )([A-Za-z/:]+)=(\S*)", shown.partition("\n")[0]))

    def wait_for_state(self, job: str, *states: str, timeout_s: float = 60) -> str:
        """Waits until the job is in one of ``states`` and gives that state.

        Raises :class:`ClusterError` at the timeout, or at once when the job has ended otherwise.
        """
        seen: dict[str, str] = {}

        def reached() -> bool:
            seen.clear()
            seen.update(self.job(job))
            state = seen.get("JobState", "unknown")
            if state in ENDED and state not in states:
                raise ClusterError(f"job {job} is {state}, not {states}: {seen}")
            return state in states

        try:
            wait_until(reached, f"job {job} is {' or '.join(states)}", timeout_s)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{seen}") from error
        return seen["JobState"]

    def wait_until_ended(self, job: str, timeout_s: float = 60) -> str:
        """Waits until the job is over, whatever its end, and gives its state."""
        return self.wait_for_state(job, *sorted(ENDED), timeout_s=timeout_s)

    def wait_for_accounting(self, job: str, wanted: str, *fields: str) -> None:
        """Waits until ``sacct`` shows the job's starts as ``wanted``: ``A|B`` a line.

        Records reach the database some seconds after the controller knows.
        """
        command = ["sacct", "-X", "-D", "-n", "-P", "-j", job, "-o", ",".join(fields)]
        shown: list[str] = []

        def there() -> bool:
            shown[:] = self.run(*command).stdout.split()
            return shown == wanted.split()

        try:
            wait_until(there, f"sacct shows {wanted.split()} for job {job}", 30)
        except ClusterError as error:
            raise ClusterError(f"{error}, but {shown}") from error

    def wait_for_text(self, path: Path, text: str, timeout_s: float = 60) -> None:
        """Waits until ``text`` stands in the file, which need not exist yet."""

        def there() -> bool:
            return path.exists() and text in path.read_text(errors="replace")

        wait_until(there, f"{text!r} in {path}", timeout_s)

    def is_idle(self) -> bool:
        """Whether the controller answers, no job is there and every node waits for one."""
        shown = self.run("sinfo", "-h", "-N", "-p", "low", "-o", "%N %T", check=False)
        queue = self.run("squeue", "-h", check=False)
        idle = sorted(f"{node} idle" for node in NODES)
        return (
            queue.returncode == 0
            and not queue.stdout
            and sorted(shown.stdout.split("\n")[:-1]) == idle
        )

    def clear(self, timeout_s: float = 60) -> None:
        """Ends all jobs without ceremony and waits until the cluster is as it was at its start."""
        everybody = "--user=" + self.run("id", "-un").stdout.strip()
        self.run("scancel", everybody, "--state=PENDING")
        self.run("scancel", everybody, "--full", "--signal=KILL", check=False)
        self.run("scancel", everybody)
        for node in NODES:
            state = self.run("sinfo", "-h", "-n", node, "-p", "low", "-o", "%T").stdout
            if state.startswith(("down", "drain")):
                self.run("scontrol", "update", f"nodename={node}", "state=resume")
        wait_until(self.is_idle, "all jobs gone", timeout_s)
