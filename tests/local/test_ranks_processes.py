"""Ranks of a run as real processes: what they do together, and how each of their ends is told."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.distribute.meeting import SECRET
from harness.distribute.topology import Topology
from harness.errors import DataError
from harness.worker.ranks import Ranks

PROGRAM = Path(__file__).with_name("ranks_program.py")
WAIT_S = 120.0


class Ended:
    """A rank that has ended: its exit code and the lines that it printed."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code = code
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
        self.errors = errors

    def told(self, key: str) -> list[Any]:
        return [line[key] for line in self.lines if key in line]


def together(size: int, action: str, **environment: str) -> list[Ended]:
    """Starts so many ranks and waits for their ends."""
    secret = secrets.token_hex(16)
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), action],
            env={
                **os.environ,
                SECRET: secret,
                "SUBMITIT_LOCAL_JOB_ID": "1",
                "SUBMITIT_LOCAL_GLOBALID": str(rank),
                "SUBMITIT_LOCAL_NTASKS": str(size),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        outputs = [process.communicate(timeout=WAIT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        Ended(process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]


@pytest.mark.parametrize("size", [2, 4])
def test_all_get_what_the_first_makes_and_what_each_gives(size: int) -> None:
    ended = together(size, "talk")
    for one in ended:
        assert one.code == 0, one.errors
        assert one.told("members") == [list(range(size))]
        assert one.told("first") == [{"turn": turn, "of": 0} for turn in range(3)]
        assert one.told("gathered") == [
            [{"ü": rank, "turn": turn} for rank in range(size)] for turn in range(3)
        ]
        assert one.told("long") == [50_000 * size]
        assert one.told("left") == [True]
        assert not one.told("account")
        assert not one.told("said")


def test_a_rank_that_fails_is_accounted_for_and_all_leave_by_that_code() -> None:
    first, second, third = together(3, "fail")
    assert first.told("account") == [[2, "the disk is gone", 4]]
    assert any("rank 2" in text and "failed: the disk" in text for text in first.told("said"))
    assert first.code == second.code == 9, "the code that the account gave"
    assert any("leaves, since rank 2" in text for text in second.told("said"))
    assert third.told("noted") == [True], "it stays until rank 0 has dealt with it"
    for one in (first, second):
        assert not one.told("gathered")


def test_a_rank_that_vanishes_is_accounted_for_without_a_word_of_it() -> None:
    first, second, third = together(3, "vanish")
    assert third.code == 7
    ((rank, message, code),) = first.told("account")
    assert (rank, message, code) == (2, None, None)
    assert first.code == second.code == 9
    (said,) = second.told("said")
    assert said.startswith("harness: leaves, since rank 2 (")
    assert "ended without a word" in said


def test_an_error_that_all_meet_is_the_firsts_to_account_for() -> None:
    first, *others = together(3, "all_fail")
    assert first.told("own") == [True]
    assert not first.told("account")
    assert first.code == 0
    for one in others:
        assert (one.code, one.told("noted")) == (0, [True])


def test_what_the_first_cannot_make_ends_all_with_its_reason() -> None:
    first, *others = together(3, "refuse")
    assert (first.code, first.told("refused")) == (4, ["there is no such folder"])
    for one in others:
        assert one.code == 4
        assert not one.told("went_on")
        assert any("there is no such folder" in text for text in one.told("said"))


def test_a_first_that_cannot_begin_tells_the_others_why() -> None:
    first, *others = together(3, "turn_away")
    assert first.code == 4
    for one in others:
        assert one.code == 4
        assert any("this run is locked" in text for text in one.told("said"))


def test_signals_of_the_others_come_to_the_first() -> None:
    first, *others = together(4, "stop")
    assert [sorted(heard) for heard in first.told("heard")] == [
        [["SIGTERM", False], ["SIGTERM", False], ["SIGTERM", True]]
    ]
    assert [one.code for one in (first, *others)] == [0] * 4


def test_the_first_may_stand_still_as_soon_as_it_has_an_answer(tmp_path: Path) -> None:
    """As in TensorFlow's start of workers, which waits for the others with the interpreter held."""
    os.mkfifo(tmp_path / "fifo")
    for one in together(2, "stand_still", FIFO=str(tmp_path / "fifo")):
        assert one.code == 0, one.errors
        assert len(one.told("had")) == 20


def test_one_process_has_nobody_to_wait_for() -> None:
    said: list[str] = []
    ranks = Ranks(Topology(), said.append)
    ranks.meet({}, None)
    assert ranks.first
    assert ranks.members == ()
    assert ranks.from_first("a", lambda: 5) == 5
    assert ranks.gather("b", "x") == ["x"]
    ranks.barrier("c")
    ranks.on("corrupt", lambda rank, data: None)
    ranks.look_for_cause()
    ranks.all_done()
    ranks.failed(DataError("mine"))
    ranks.turn_away({}, None, DataError("mine"))
    ranks.break_up("mine", 1)
    ranks.dismiss()
    assert not ranks.noted
    assert not said
