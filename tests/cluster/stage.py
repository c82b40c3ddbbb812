"""A run whose ranks are played by ``actor.sh``, so that every end can be had, and soon."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.launch.executors import RunSlurmExecutor
from harness.launch.request import Request
from harness.launch.script import parameters, step_command
from harness.launch.slurm import Slurm
from harness.runs.paths import RunPaths
from harness.spec import load_site
from tests.cluster.slurm_cluster import SlurmCluster

ACTOR = Path(__file__).with_name("actor.sh")
SHORT = {"cpus_per_rank": 1, "partition": "low", "lead_s": 10}


class Stage:
    """A run whose ranks are played, and its job."""

    def __init__(self, cluster: SlurmCluster, folder: Path, *plays: str, **wanted: object) -> None:
        self.cluster = cluster
        self.paths = RunPaths.create(folder / "run", "private")
        (self.paths.root / "play").write_text("".join(f"{play}\n" for play in plays))
        self.change = ("", "")
        self.request = Request("played", **{**SHORT, **wanted})  # type: ignore[arg-type]

    def text(self) -> str:
        actor = shutil.copy(ACTOR, self.paths.root)
        slurm = Slurm(self.cluster.environment())
        executor = RunSlurmExecutor(
            self.paths.slurm, slurm, step_command(self.request, self.paths, "pickle"), 0o077
        )
        made = parameters(self.request, self.paths, load_site("generic"), "private", str(actor))
        executor.update_parameters(**made)
        return executor.text()

    def submit(self) -> Stage:
        script = self.paths.slurm / "script.sh"
        script.write_text(self.text().replace(*self.change))
        self.job = self.cluster.submit(str(script))
        return self

    def log(self, end: str = "err", task: int | None = None) -> Path:
        job = self.job if task is None else f"{self.job}_{task}"
        return self.paths.job_log(job, 0, end)

    def wait_for(self, text: str, end: str = "out", task: int | None = None) -> None:
        self.cluster.wait_for_text(self.log(end, task), text, timeout_s=90)

    def ends(self, state: str, code: int) -> str:
        """Waits for the end; what the batch script said."""
        assert self.cluster.wait_until_ended(self.job, timeout_s=120) == state, self.said()
        assert self.cluster.job(self.job)["ExitCode"] == f"{code}:0", self.said()
        return self.said()

    def said(self) -> str:
        return self.log().read_text() if self.log().exists() else "nothing"

    def plays_left(self) -> list[str]:
        return (self.paths.root / "play").read_text().split("\n")[:-1]
