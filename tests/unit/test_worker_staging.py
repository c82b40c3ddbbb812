"""Staging beside a run and by hand: who copies, how much, what is said, what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spec_helpers import changed
from staging_helpers import flip, make_set, records

from harness.cli.main import main
from harness.data.packed import PackedIndex, open_packed
from harness.data.staging import StagedSet, staged_folder
from harness.errors import DataError, UsageError
from harness.launch.packed_check import check_packed
from harness.spec import load_spec
from harness.worker import scratch
from harness.worker.notices import Notice, Notices
from harness.worker.scratch import NotStaged, Place, place_of
from harness.worker.stage import place_to
from harness.worker.staging import Staging

MB = 1 << 20


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on this machine's RAM disk."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


class Begun:
    """A staging, and what it told so far."""

    def __init__(self, place: Place, sets: dict[str, list[PackedIndex]], **environment: str):
        self.told: list[Notice] = []
        self.staging = Staging(place, environment, 1, self.told.append)
        self.staging.begin(sets)

    def wait(self, holds: Callable[[], object], what: str) -> Begun:
        until = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < until, f"{what}: {self.told}"
            time.sleep(0.01)
        return self

    def facts(self, name: str = "data.train") -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [one["facts"] for one in self.told if one.get("set") == name]

        self.wait(found, "it has not been copied")
        return found()[0]


def test_all_is_copied_beside_and_stays_for_the_next(memory: Path, tmp_path: Path) -> None:
    train, test = make_set(tmp_path / "train"), make_set(tmp_path / "test", shards=2)
    same = open_packed(tmp_path / "train")
    place = Place(memory, "TMPDIR")
    begun = Begun(place, {"data.train": [train, same], "data.test": [test]})
    wanted = records(open_packed(train.root), np.arange(20))
    facts = begun.facts()
    assert (facts["files"], facts["of_files"]) == (8, 8)
    assert facts["bytes"] == facts["of_bytes"] == facts["copied_bytes"]
    assert begun.facts("data.test")["files"] == 5
    for index in (train, same):
        for shard in index.shards:
            (index.root / shard.file).unlink(missing_ok=True)
        assert records(index, np.arange(20)) == wanted
    begun.staging.close()
    shutil.rmtree(tmp_path / "train")
    again = Begun(place, {"data.train": [make_set(tmp_path / "train")]}, SLURMD_NODENAME="n7")
    again.wait(StagedSet(train, place.base).is_whole, "it is there")
    again.staging.close()
    assert [one for one in again.told if "facts" in one] == [], "there was nothing to copy"


def test_a_copy_that_was_half_purged_is_completed(memory: Path, tmp_path: Path) -> None:
    index = make_set(tmp_path / "set")
    place = Place(memory, "TMPDIR")
    begun = Begun(place, {"data.train": [index]})
    begun.facts()
    begun.staging.close()
    one = StagedSet(index, place.base)
    gone = list(index.shards[1:3])
    for shard in gone:
        (one.folder / shard.file).unlink()
    again = Begun(place, {"data.train": [index]})
    assert again.facts()["copied_bytes"] == sum(shard.bytes for shard in gone)
    again.staging.close()
    assert one.is_whole()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_ram_disk_takes_half_of_what_the_job_has_left(memory: Path, tmp_path: Path) -> None:
    index = make_set(tmp_path / "set", shards=20, each=1, size=2 * MB)
    limit = (resident() + 40 * MB) // MB
    begun = Begun(Place(memory, "TMPDIR"), {"data.train": [index]}, SLURM_MEM_PER_NODE=f"{limit}")
    facts = begun.facts()
    begun.staging.close()
    assert 2 * MB < facts["bytes"] <= 20 * MB
    assert facts["of_bytes"] > 40 * MB
    (text,) = [one["text"] for one in begun.told]
    assert "there is no room for the rest: /dev/shm is memory, and half of the" in text
    found = records(index, np.arange(20))
    assert all(found), "what has no copy is read from the set"
    # By hand it is all or nothing.
    environment = {**os.environ, "SLURM_MEM_PER_NODE": "50"}
    command = [sys.executable, "-m", "harness", "stage", str(index.root), "--to", str(memory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "there is no room for" in done.stderr
    assert "/dev/shm is memory" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_full_disk_costs_the_copy_and_not_the_run(tmp_path: Path) -> None:
    index = make_set(tmp_path / "set", shards=8, each=1, size=MB)
    disk = tmp_path / "disk"
    disk.mkdir()
    # A file system of its own, made of memory: as a disk it is as full as any.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=True)
    try:
        begun = Begun(Place(disk, "TMPDIR"), {"data.train": [index]})
        facts = begun.facts()
        begun.staging.close()
        assert 2 * MB < facts["bytes"] < 4 * MB
        assert "are free there, of which" in begun.told[0]["text"]
        assert all(records(index, np.arange(8)))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_is_in_a_folder_of_the_job_goes_with_it(memory: Path, tmp_path: Path) -> None:
    index = make_set(tmp_path / "set")
    place = Place(memory, "SLURM_TMPDIR", private=True)
    one, other = (Begun(place, {"data.train": [index]}) for _ in range(2))
    one.wait(StagedSet(index, place.base).is_whole, "it is not copied")
    one.staging.close()
    assert StagedSet(index, place.base).is_whole(), "another rank still uses it"
    other.staging.close()
    assert list(memory.iterdir()) == []
    assert all(records(index, np.arange(20))), "and from the set itself all the same"


def test_a_damaged_shard_of_the_set_is_named_and_the_others_are_staged(
    memory: Path, tmp_path: Path
) -> None:
    index = make_set(tmp_path / "set")
    flip(index.root / index.shards[3].file, 40)
    begun = Begun(Place(memory, "TMPDIR"), {"data.train": [index]})
    assert begun.facts()["files"] == 7
    begun.staging.close()
    assert "data-00003-of-00005.tfrecord is not what was packed" in begun.told[0]["text"]
    assert begun.told[1]["text"].endswith("; the rest is read from shared storage")


def test_a_place_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    index = make_set(tmp_path / "set")
    (tmp_path / "file").touch()
    for place, words in (
        (Place(tmp_path / "file", "cluster.stage"), "file: File exists"),
        (Place(tmp_path, "TMPDIR"), "is on the file system of the data themselves"),
    ):
        begun = Begun(place, {"data.train": [index]})
        begun.staging.close()
        (text,) = [one["text"] for one in begun.told]
        assert text.startswith("data.train is not staged: ")
        assert words in text
        assert "Errno" not in text
        assert index.near is None


RANK = """
import sys, time
from pathlib import Path
from harness.data.packed import open_packed
from harness.data.staging import StagedSet
from harness.worker.scratch import Place
from harness.worker.staging import Staging
import json
index = open_packed(sys.argv[1])
place = Place(Path(sys.argv[2]), "TMPDIR")
told = []
staging = Staging(place, {}, 2, told.append)
staging.begin({"data.train": [index]})
one = StagedSet(index, place.base)
while not one.is_whole():
    time.sleep(0.01)
time.sleep(0.3)
print(json.dumps([t for t in told if "facts" in t]), flush=True)
sys.stdin.read()
staging.close()
"""


def ranks(index: PackedIndex, place: Path, count: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", RANK, str(index.root), str(place)]
    return [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]


def test_of_several_ranks_of_a_node_one_copies(memory: Path, tmp_path: Path) -> None:
    index = make_set(tmp_path / "set", shards=10, each=2, size=MB)
    started = ranks(index, memory, 3)
    facts = [one for process in started for one in json.loads(process.communicate("")[0])]
    assert [process.returncode for process in started] == [0, 0, 0]
    (only,) = facts
    assert only["facts"]["copied_bytes"] == only["facts"]["of_bytes"]


def test_another_rank_goes_on_where_the_one_that_copied_was_killed(
    memory: Path, tmp_path: Path
) -> None:
    index = make_set(tmp_path / "set", shards=30, each=1, size=4 * MB)
    folder = StagedSet(index, staged_folder(memory)).folder
    (first,) = ranks(index, memory, 1)
    while len(list(folder.glob("data-*"))) < 2:
        time.sleep(0.001)
    (second,) = ranks(index, memory, 1)
    first.kill()
    first.communicate()
    ((facts,),) = [json.loads(second.communicate("")[0])]
    assert second.returncode == 0
    assert facts["facts"]["files"] == 33
    assert 0 < facts["facts"]["copied_bytes"] < facts["facts"]["of_bytes"]
    assert not list(folder.glob(".*")), "what was left half-written is gone"


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


def test_the_verb_says_what_it_did(memory: Path, tmp_path: Path, capsys) -> None:
    index = make_set(tmp_path / "set")
    command = ["stage", str(index.root), "--to", str(memory)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "8 files" in said
    assert "8 copied in" in said
    folder = Path(said.splitlines()[-1].strip())
    assert open_packed(folder).digest == index.digest
    flip(folder / index.shards[1].file, 33)
    (folder / "keys.bin").unlink()
    assert main([*command, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["sets"]
    assert facts["damaged"] == [index.shards[1].file]
    assert (facts["copied_files"], facts["files"]) == (2, 8)
    assert facts["copied_bytes"] == index.shards[1].bytes + 8 * 20
    assert records(open_packed(folder), np.arange(20)) == records(index, np.arange(20))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{}/nowhere"], 4, "does not exist"),
        (["{}/folder"], 2, "is not packed"),
        (["{}/set", "-o", "a=b"], 2, "-o belongs to a spec"),
        (["{}/cut"], 4, "is not as it was packed"),
        (["{}/bad"], 4, "is not what was packed"),
        (["{}/folder.yaml"], 2, "names no packed data"),
        (["{}/set", "--only", "data"], 2, "--only is of a spec"),
        (["{}/set", "--digest"], 2, "--digest is of a backbone that is fetched"),
        (["{}/set", "--from", "{}/cut"], 2, "--from is of a backbone that is fetched"),
        (["{}/folder.yaml", "--only", "backbone"], 2, "nothing is fetched of this backbone"),
        (["{}/set", "--dry-run"], 2, "--dry-run belongs to a job"),
        (["{}/set", "--site", "nosuch"], 2, "there is no such site"),
    ],
)
def test_what_the_verb_refuses(
    memory: Path, tmp_path: Path, capsys, arguments: list[str], code: int, words: str
) -> None:
    make_set(tmp_path / "set")
    cut, bad = make_set(tmp_path / "cut"), make_set(tmp_path / "bad")
    os.truncate(cut.root / cut.shards[0].file, 5)
    flip(bad.root / bad.shards[0].file, 5)
    (tmp_path / "folder").mkdir()
    backbone = {"handle": "plugin:none"}
    spec = changed(backbone=backbone, data={"train": str(tmp_path / "folder")})
    (tmp_path / "folder.yaml").write_text(json.dumps(spec))
    given = [one.format(tmp_path) for one in arguments]
    assert main(["stage", *given, "--to", str(memory)]) == code
    assert words in capsys.readouterr().err
    assert not list(memory.rglob("data-*")) or "bad" in arguments[0]


def test_a_spec_has_its_packed_sets_staged_each_once(memory: Path, tmp_path: Path, capsys) -> None:
    train = make_set(tmp_path / "train")
    (tmp_path / "test").mkdir()
    data = {"train": str(train.root), "validation": str(train.root), "test": str(tmp_path / "test")}
    file = tmp_path / "spec.yaml"
    file.write_text(json.dumps(changed(data=data, cluster={"stage": str(memory)})))
    assert main(["stage", str(file), "--only", "data", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["backbone"] is None
    assert found["place"] == str(memory)
    assert [one["name"] for one in found["sets"]] == ["data.train"]


def test_a_plan_says_how_much_there_is_to_stage(tmp_path: Path, write_pictures, capsys) -> None:
    train = make_set(tmp_path / "train", shards=3)
    test = make_set(tmp_path / "test", shards=2)
    pictures = write_pictures(tmp_path / "pictures", ["a", "b"], 4, 8)
    file = tmp_path / "spec.yaml"
    for data, stage, wanted in (
        ({"train": train.root, "test": test.root}, "scratch", (train, test)),
        ({"train": train.root}, "none", None),
        ({"train": pictures}, "scratch", ()),
    ):
        paths = {name: str(path) for name, path in data.items()}
        file.write_text(json.dumps(changed(data=paths, cluster={"stage": stage})))
        assert main(["plan", str(file), "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        size = None if wanted is None else sum(s.bytes for one in wanted for s in one.shards)
        assert plan["estimates"].get("bytes_to_stage") == size
        assert any("nothing is staged" in note for note in plan["notes"]) == (wanted == ())


def test_files_that_a_purge_took_are_seen_before_anything_is_queued(tmp_path: Path, capsys) -> None:
    index = make_set(tmp_path / "set", shards=9)
    file = tmp_path / "spec.yaml"
    file.write_text(
        "harness_spec: 1\nname: x\nbackbone: {handle: 'https://tfhub.dev/x/1'}\n"
        f"data:\n  train: {index.root}\n  validation: null\n"
    )
    resolved = load_spec(file)
    check_packed(resolved)
    assert main(["validate", str(file)]) == 0
    for shard in index.shards[2:]:
        (index.root / shard.file).unlink()
    os.truncate(index.root / index.shards[0].file, 9)
    with pytest.raises(DataError) as caught:
        check_packed(resolved)
    first, *_, last = caught.value.problems
    assert (first.path, first.file, first.line) == ("data.train", str(file), 5)
    assert str(index.root / index.shards[0].file) in first.what
    assert (first.got, first.allowed) == ("9 bytes", f"{index.shards[0].bytes} bytes")
    assert "run the same `harness pack` again" in str(first.action)
    assert "3 more of this kind" in last.what
    capsys.readouterr()
    assert main(["validate", str(file)]) == 4
    assert "is not as it was packed" in capsys.readouterr().err
    for command in ("submit", "submit --prepare", "submit --no-preflight"):
        root = ["--runs-root", str(tmp_path / "runs")]
        assert main([*command.split(), str(file), *root]) == 4, command
    assert not (tmp_path / "runs").exists()
