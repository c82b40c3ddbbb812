"""A run whose rank is played by ``played_run.py``, submitted with the real batch script."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.launch.executors import RunSlurmExecutor
from harness.launch.request import Request
from harness.launch.script import parameters, step_command
from harness.launch.slurm import Slurm
from harness.runs.jobs import Job, record_job
from harness.spec import load_site
from tests.cluster.processes import wait_until
from tests.cluster.slurm_cluster import SlurmCluster
from tests.unit.runs_helpers import make_run

PLAYER = Path(__file__).with_name("played_run.py")
SITE = "impatient"
REPO = PLAYER.parents[2]


class LookedAfter:
    """A run of one played rank or more; the verbs are called in this process."""

    def __init__(
        self,
        cluster: SlurmCluster,
        monkeypatch: pytest.MonkeyPatch,
        root: Path,
        name: str = "played",
    ) -> None:
        self.cluster = cluster
        for variable, value in cluster.environment().items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("HARNESS_RUNS_ROOT", str(root))
        # A site where SLURM may be asked often, so that those who follow soon see the end.
        monkeypatch.setenv("XDG_CONFIG_HOME", str(root.parent / "config"))
        sites = root.parent / "config" / "harness" / "sites"
        sites.mkdir(parents=True, exist_ok=True)
        (sites / f"{SITE}.yaml").write_text(f"name: {SITE}\npolling: {{queue_s: 2}}\n")
        self.paths = make_run(root, name)
        self.name = name
        self.job = ""

    def submit(self, *plays: str, options: tuple[str, ...] = (), **wanted: Any) -> str:
        """Submits the run, as ``harness submit`` would; the job's id."""
        asked = {"cpus_per_rank": 1, "partition": "low", "lead_s": 10, **wanted}
        request = Request(self.name, **asked)
        player = self.paths.root / "player"
        words = [sys.executable, str(PLAYER), str(self.paths.root), *plays]
        # The script asks its Python first whether it has harness at all.
        player.write_text(
            f"#!/bin/bash\nexport PYTHONPATH={REPO}\n"
            f'if [ "$1" != -u ]; then exec {sys.executable} "$@"; fi\n'
            f"exec {shlex.join(words)}\n"
        )
        player.chmod(0o700)
        executor = RunSlurmExecutor(
            self.paths.slurm, Slurm(), step_command(request, self.paths, "none.pkl"), 0o077
        )
        site = load_site(SITE)
        executor.update_parameters(**parameters(request, self.paths, site, "private", str(player)))
        script = self.paths.slurm / "played_submission.sh"
        script.write_text(executor.text())
        self.paths.cancelled.unlink(missing_ok=True)
        self.job = self.cluster.submit(*options, str(script))
        tasks = request.max_attempts if request.continue_by == "chain" else None
        record_job(self.paths, Job(self.job, site=SITE, ranks=request.ranks, tasks=tasks))
        return self.job

    def call(self, verb: str, *words: str, code: int | None = 0) -> str:
        """What a verb prints on both streams, for this run; checks its exit code."""
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            got = main([verb, *words, *([] if verb == "list" else [str(self.paths.root)])])
        assert code in (None, got), said.getvalue()
        return said.getvalue()

    def status(self) -> dict[str, Any]:
        """``harness status --json``."""
        facts: dict[str, Any] = json.loads(self.call("status", "--json"))
        return facts

    def wait_for(self, state: str, timeout_s: float = 90) -> dict[str, Any]:
        """Waits until status says this state."""
        return self.wait_until(lambda facts: bool(facts["state"] == state), state, timeout_s)

    def wait_until(
        self, true: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 90
    ) -> dict[str, Any]:
        """Waits until what status says is as wanted."""
        seen: dict[str, Any] = {}

        def there() -> bool:
            seen.clear()
            seen.update(self.status())
            return true(seen)

        try:
            wait_until(there, what, timeout_s)
        except Exception as error:
            log = self.paths.job_log(self.job, 0, "err")
            logged = log.read_text() if log.exists() else "no log"
            raise AssertionError(f"{error}: {json.dumps(seen, indent=1)}\n{logged}") from error
        return seen

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A verb in a process of its own, both streams in its stdout."""
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "harness", *words],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


New = Callable[..., LookedAfter]
"""Makes another run on the cluster."""


class CountingSlurm(Slurm):
    """Counts the commands that are called, without the ping before the first."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment)
        self.called: list[str] = []

    def run(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        if words[:2] != ("scontrol", "ping"):
            self.called.append(words[0])
        return super().run(*words, **more)
