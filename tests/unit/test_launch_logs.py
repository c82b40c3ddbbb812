"""Logs of jobs: finding them, their last lines, who failed first, and following them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.launch.logs import failure, find_logs, last_lines, last_lines_at, require_logs
from harness.runs.jobs import Job, record_job
from harness.runs.paths import RunPaths
from tests.unit.logs_helpers import paths, write

__all__ = ["paths"]  # a fixture, found by its name


def names(paths: RunPaths, **choice: object) -> list[str]:
    return [log.path.name for log in find_logs(paths, **choice)]  # type: ignore[arg-type]


class TestFinding:
    @pytest.fixture
    def many(self, paths: RunPaths) -> RunPaths:
        record_job(paths, Job("20"))
        record_job(paths, Job("9", tasks=3))
        for name in ("20_0", "9_10_0", "9_2_0", "9_2_11", "9_2_2"):
            for stream in ("err", "out"):
                (paths.slurm / f"{name}_log.{stream}").write_text("x\n")
        for name in ("outcome-1.json", "20_submission.sh", "20_0_log.out.gz", ".20_0_log.out"):
            (paths.slurm / name).write_text("")
        return paths

    def test_in_the_order_of_submissions_tasks_ranks_and_streams(self, many: RunPaths) -> None:
        assert names(many, rank=None, streams="out") == [
            f"{name}_log.out" for name in ("20_0", "9_2_0", "9_2_2", "9_2_11", "9_10_0")
        ]
        assert names(many, job="20") == ["20_0_log.out", "20_0_log.err"]
        assert names(many, job="9_2", streams="err") == ["9_2_0_log.err"]
        assert names(many, job="9", rank=11, streams="err") == ["9_2_11_log.err"]

    def test_the_newest_with_logs(self, many: RunPaths) -> None:
        record_job(many, Job("30"))
        assert require_logs(many, None, 0, waits=False) == "9_10"
        assert require_logs(many, "9", 2, waits=False) == "9_2"
        with pytest.raises(UsageError, match="no such job, got 8, allowed: 20, 9, 30"):
            require_logs(many, "8", 0, waits=False)
        with pytest.raises(UsageError, match="job 30 has printed nothing yet"):
            require_logs(many, "30", 0, waits=False)
        assert require_logs(many, "30", 0, waits=True) is None
        with pytest.raises(UsageError, match="no log, got 5, allowed: 0 to 0, or all"):
            require_logs(many, "20", 5, waits=False)

    def test_never_submitted(self, paths: RunPaths) -> None:
        with pytest.raises(UsageError, match=r"never submitted.*`harness run` prints to its"):
            require_logs(paths, None, 0, waits=True)


@given(st.binary(max_size=300).map(lambda raw: raw.replace(b"\r", b"")), st.integers(0, 9))
def test_the_last_lines_begin_where_they_begin(raw: bytes, count: int) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(raw)
        file.flush()
        at = last_lines_at(Path(file.name), count)
    lines = raw.split(b"\n")
    lines = lines[:-1] if lines[-1] == b"" else lines
    end = b"\n" if raw.endswith(b"\n") else b""
    wanted = raw if count in (0, len(lines)) else b"\n".join(lines[-count:]) + end
    assert raw[at:] == (wanted if lines else b"")


def test_the_last_lines_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(300_000)))
    assert last_lines(path, 2) == ["line 299998", "line 299999"]
    assert path.read_bytes()[last_lines_at(path, 20_000) :].startswith(b"line 280000\n")
    assert last_lines(tmp_path / "none", 2) == []
    assert last_lines_at(tmp_path / "none", 2) == 0


TRACEBACK = "Traceback (most recent call last):\nValueError: x\n"


STARTED = "harness: job 12, start {}, on n[1-2]\n"


FIRST = {
    "srun names it": ("srun: error: n2: task 3: Exited with exit code 7\n", 3, "code 7 on n2"),
    "killed after it": (
        "srun: error: n1: task 2: Out Of Memory\nsrun: error: n1: tasks 0-1,3: Killed\n",
        2,
        "Out Of Memory on n1",
    ),
    "several at once": ("srun: error: n1: tasks 1-2: Segmentation fault\n", 1, "fault on n1"),
    "an older start does not count": (
        STARTED.format(1) + "srun: error: n1: task 2: Killed\n" + STARTED.format(2) + "x\n",
        1,
        "its error came first",
    ),
    "rank 0 says it": (
        STARTED.format(1)
        + "harness: rank 1 (node n1, pid 6) failed: x\n"
        + STARTED.format(2)
        + "harness: rank 3 (node n2, host h, pid 7) failed: gone\nharness: rank 2 is late\n",
        3,
        "it failed, as rank 0 says",
    ),
    "a killed one is srun's to name": (
        "harness: rank 3 (node n2, pid 7) ended without a word (its connection was closed)\n"
        "srun: error: n2: task 3: Killed\n",
        3,
        "Killed on n2",
    ),
    "nothing said": ("x\n", 1, "its error came first"),
}


@pytest.mark.parametrize("case", FIRST)
def test_who_failed_first(paths: RunPaths, case: str) -> None:
    text, rank, how = FIRST[case]
    write(paths, "12", 0, "err", text)
    write(paths, "12", 1, "err", TRACEBACK, age_s=50)
    write(paths, "12", 2, "err", TRACEBACK, age_s=10)
    write(paths, "12", 3, "err", "a warning\n", age_s=90)
    found = failure(paths, "12")
    assert found is not None
    assert found.rank == rank
    assert found.how.endswith(how)
    assert found.lines == last_lines(paths.job_log("12", rank, "err"), 40)


def test_those_that_leave_with_the_first_have_not_failed(paths: RunPaths) -> None:
    write(paths, "12", 0, "err", "harness: the loss is not finite\n")
    for rank in (1, 2):
        left = "harness: leaves, since rank 0 (node n1, pid 7) failed: the loss is not finite\n"
        write(paths, "12", rank, "err", left, age_s=90)
    found = failure(paths, "12")
    assert found is not None
    assert (found.rank, found.how) == (0, "")


def test_a_failure_with_little_to_show(paths: RunPaths) -> None:
    assert failure(paths, "12") is None
    write(paths, "12", 0, "err", "")
    write(paths, "12", 0, "out", "one\ntwo\n")
    found = failure(paths, "12", 1)
    assert found is not None
    assert (found.rank, found.how, found.lines) == (0, "", ["two"])
    assert found.log.name == "12_0_log.out"
