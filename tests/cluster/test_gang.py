"""Ranks that srun starts on several nodes find one another, and notice what becomes of them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import wait_until
from tests.cluster.slurm_cluster import SlurmCluster

PROGRAM = Path(__file__).parents[1] / "local" / "gang_rank.py"


class Step:
    """Four ranks on two nodes; ``lines`` is what each prints."""

    def __init__(self, cluster: SlurmCluster, *words: str) -> None:
        srun = ["srun", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--label", "--partition"]
        # Without --kill-on-bad-exit or --wait: SLURM itself ends nobody.
        self.popen = subprocess.Popen(
            [*srun, "low", "--wait=0", sys.executable, str(PROGRAM), *words],
            env=cluster.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: dict[int, list[dict[str, Any]]] = {rank: [] for rank in range(4)}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            label, _, text = line.partition(": ")
            self.lines[int(label)].append(json.loads(text))

    def told(self, key: str, *ranks: int) -> list[Any]:
        """What each of the ranks prints under ``key``, as soon as all have."""

        def found() -> list[Any]:
            return [line[key] for rank in ranks for line in self.lines[rank] if key in line]

        wait_until(lambda: len(found()) == len(ranks), f"{key!r} of {ranks}", 90)
        return found()

    def end(self) -> int:
        code = self.popen.wait(90)
        self._thread.join(90)
        for pipe in (self.popen.stdout, self.popen.stderr):
            assert pipe is not None
            pipe.close()
        return code


@pytest.fixture
def steps(cluster: SlurmCluster) -> Iterator[list[Step]]:
    made: list[Step] = []
    yield made
    for step in made:
        if step.popen.poll() is None:
            step.popen.terminate()
            step.end()


def test_ranks_on_two_nodes_meet_and_leave(cluster: SlurmCluster, steps: list[Step]) -> None:
    steps.append(step := Step(cluster, "60", "leave"))
    met = step.told("met", 0, 1, 2, 3)
    assert step.end() == 0
    assert met[1:] == met[:1] * 3
    assert [member["node"] for member in met[0]] == ["n1", "n1", "n2", "n2"]
    assert step.told("left", 0, 1, 2, 3) == [True] * 4


def test_a_killed_rank_ends_the_others_by_name(cluster: SlurmCluster, steps: list[Step]) -> None:
    """No ``--kill-on-bad-exit`` here: it is the ranks that notice."""
    steps.append(step := Step(cluster, "60", "stay"))
    met = step.told("met", 0, 1, 2, 3)
    cluster.run("kill", "-KILL", str(met[0][3]["pid"]))
    for lost in step.told("lost", 0, 1, 2):
        assert lost["rank"] == 3
        assert lost["name"].startswith("rank 3 (node n2, ")
    assert step.end() != 0


def test_a_rank_that_does_not_come_is_named_with_its_node(
    cluster: SlurmCluster, steps: list[Step], tmp_path: Path
) -> None:
    shell = tmp_path / "python"
    shell.write_text(f'#!/bin/sh\n[ "$SLURM_PROCID" = 2 ] || exec {sys.executable} "$@"\n')
    shell.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(shell))
        steps.append(step := Step(cluster, "10", "stay"))
    for error in step.told("error", 0, 1, 3):
        assert "rank 2 (1 of 2 came from node n2) did not come within 10 s" in error
    assert step.end() == 3
