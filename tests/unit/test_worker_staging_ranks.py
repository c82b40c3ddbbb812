"""Staging by several ranks of a node."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from staging_helpers import make_set

from harness.data.packed import PackedIndex
from harness.data.staging import StagedSet, staged_folder
from tests.unit.worker_staging_helpers import MB, memory

__all__ = ["memory"]  # a fixture, found by its name


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
