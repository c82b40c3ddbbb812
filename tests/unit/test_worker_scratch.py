"""Where a node has scratch, and what is noted of staging there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.worker import scratch
from harness.worker.notices import Notices
from harness.worker.scratch import NotStaged, place_of
from harness.worker.stage import place_to


@pytest.mark.parametrize(
    ("variables", "environment", "folder", "private"),
    [
        (("SLURM_TMPDIR", "TMPDIR"), {"SLURM_TMPDIR": "a", "TMPDIR": "b"}, "a", True),
        (("SLURM_TMPDIR", "TMPDIR"), {"SLURM_TMPDIR": "", "TMPDIR": "b"}, "b", False),
        (("SLURM_TMPDIR", "TMPDIR"), {"SLURM_TMPDIR": "gone", "TMPDIR": "b"}, "b", False),
        (("LOCAL",), {"LOCAL": "job.77", "SLURM_JOB_ID": "77"}, "job.77", True),
        (("LOCAL",), {"LOCAL": "job.77", "SLURM_JOB_ID": "7"}, "job.77", False),
        (("LOCAL",), {"LOCAL": "job.77"}, "job.77", False),
    ],
)
def test_scratch_is_the_first_variable_that_names_a_folder(
    tmp_path: Path,
    variables: tuple[str, ...],
    environment: dict[str, str],
    folder: str,
    private: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b", "job.77"):
        (tmp_path / name).mkdir()
    # Relative to a folder without digits of its own.
    monkeypatch.chdir(tmp_path)
    place = place_of("scratch", variables, environment)
    assert (str(place.folder), place.private) == (folder, private)


def test_without_a_variable_it_is_tmp_and_a_folder_is_itself() -> None:
    assert place_of("scratch", ("NO",), {}).folder == Path("/tmp")
    named = place_of("/some/where", ("NO",), {})
    assert (named.folder, named.said, named.private) == (
        Path("/some/where"),
        "cluster.stage",
        False,
    )
    assert place_to(None, "/some/where", (), {}) == named
    assert place_to(Path("/else"), "/some/where", (), {}).folder == Path("/else")


def test_scratch_on_shared_storage_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    network = scratch.here(Path("/"))[0], scratch.here(Path("/"))[1]
    assert network[1] is not None
    lustre = type(network[1])("/", "lustre", "10.0.0.1@o2ib:/scratch")
    monkeypatch.setattr(scratch, "here", lambda path: (path, lustre))
    with pytest.raises(NotStaged, match=r"shared storage itself \(lustre\)"):
        place_of("scratch", ("NO",), {})
    with pytest.raises(UsageError, match="scratch_variables"):
        place_to(None, "none", ("NO",), {})


def test_notices_are_kept_by_node_and_bounded() -> None:
    notices = Notices()
    notices.add({"node": "n1", "text": "all", "set": "data.train", "facts": {"files": 3}})
    for number in range(30):
        notices.add({"node": "n2", "text": f"lost {number}"})
    lines = notices.take()
    assert len(lines) == 31
    assert lines[0] == "staging on n1: all"
    assert notices.take() == []
    assert notices.by_node["n1"]["sets"] == {"data.train": {"files": 3}}
    assert len(notices.by_node["n2"]["notices"]) == 20
    assert notices.by_node["n2"]["more"] == 10
