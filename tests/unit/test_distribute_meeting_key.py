"""The key of a start, which its ranks share."""

from __future__ import annotations

import re

import pytest

from harness.distribute.meeting import (
    SECRET,
    meeting_key,
)
from tests.unit.meeting_helpers import place

STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}


OPEN_MPI = {"OMPI_MCA_orte_precondition_transports": "6d-49", "OMPI_MCA_ess_base_jobid": "8"}


class TestKey:
    @pytest.mark.parametrize(
        "environment",
        [STEP, {**STEP, "SLURM_RESTART_COUNT": "1"}, {**STEP, SECRET: "x"}],
    )
    def test_it_is_the_same_on_all_ranks_and_does_not_show_what_it_is_made_of(
        self, environment: dict[str, str]
    ) -> None:
        keys = {
            meeting_key(place(rank), {**environment, "SLURM_PROCID": str(rank)}, "run")
            for rank in range(4)
        }
        assert len(keys) == 1
        assert re.fullmatch("[0-9a-f]{64}", keys.pop())

    @pytest.mark.parametrize(
        ("source", "one", "other"),
        [
            ("srun", STEP, {**STEP, "SLURM_JOB_ID": "8"}),
            ("srun", STEP, {**STEP, "SLURM_STEP_ID": "1"}),
            ("srun", STEP, {**STEP, "SLURM_RESTART_COUNT": "1"}),
            ("srun", STEP, {**STEP, SECRET: "s"}),
            ("srun", {SECRET: "t"}, {SECRET: "s"}),
            ("submitit", {"SUBMITIT_LOCAL_JOB_ID": "1"}, {"SUBMITIT_LOCAL_JOB_ID": "2"}),
            ("mpirun", OPEN_MPI, {**OPEN_MPI, "OMPI_MCA_orte_precondition_transports": "6d-50"}),
            (
                "horovodrun",
                {"HOROVOD_GLOO_RENDEZVOUS_PORT": "1"},
                {"HOROVOD_GLOO_RENDEZVOUS_PORT": "2"},
            ),
        ],
    )
    def test_it_differs_between_starts(
        self, source: str, one: dict[str, str], other: dict[str, str]
    ) -> None:
        topology = place(source=source)
        assert meeting_key(topology, one, None) != meeting_key(topology, other, None)

    def test_it_differs_between_runs_sizes_launchers_and_clusters(self) -> None:
        keys = [
            meeting_key(place(), STEP, None),
            meeting_key(place(), STEP, "a"),
            meeting_key(place(), STEP, "b"),
            meeting_key(place(size=5), STEP, None),
            meeting_key(place(source="mpiexec"), STEP, None),
            meeting_key(place(source="TF_CONFIG", workers=("a:1", "b:1")), {}, None),
            meeting_key(place(source="TF_CONFIG", workers=("a:1", "b:2")), {}, None),
        ]
        assert len(set(keys)) == len(keys)

    def test_it_is_another_users_for_another_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = meeting_key(place(), STEP, None)
        monkeypatch.setattr("os.getuid", lambda: 54_321)
        assert meeting_key(place(), STEP, None) != mine
