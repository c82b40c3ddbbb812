"""Runs that stage their packed data: the bits of those that do not, whatever befalls the copies."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.data.index import folder_index
from harness.data.order import canonical_rows
from harness.data.pack import pack
from harness.data.pack_plan import PackOptions
from harness.data.packed import open_packed
from harness.data.packing import Packing
from harness.data.staging import StagedSet, staged_folder
from tests.local.rank_helpers import assert_all, run_ranks
from tests.local.training_helpers import CLASSES, assert_same_result, curve, write_spec

# Waits until all is staged, so that what comes next meets copies; then, after some steps, takes
# one copy away and changes a bit in another, of files that every epoch reads.
PURGE = '''
import pathlib, time
import tf_keras
from harness.plugins import register

@register("callback", "purge")
class Purge(tf_keras.callbacks.Callback):
    """Waits for the staged set in a folder; damages it at a step."""

    def __init__(self, folder, at):
        super().__init__()
        self.folder, self.at = pathlib.Path(folder), at

    def on_train_batch_end(self, batch, logs=None):
        until = time.monotonic() + 60
        while not (self.folder / "index.json").exists():
            assert time.monotonic() < until, "nothing is staged"
            time.sleep(0.01)
        step = int(self.model.optimizer.iterations.numpy())
        if self.at is not None and step >= self.at:
            gone, bad = sorted(self.folder.glob("data-*"))[:2]
            gone.unlink()
            raw = bytearray(bad.read_bytes())
            raw[len(raw) // 2] ^= 1
            bad.write_bytes(raw)
            self.at = None

    def get_state(self):
        return {"calls": 0}

    def set_state(self, state):
        pass
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    """Training and test pictures, packed into several small shards."""
    folder = tmp_path_factory.mktemp("data")
    for name, number in (("train", 17), ("test", 5)):
        index = folder_index(write_pictures(folder / "pictures" / name, CLASSES, number, 16))
        packing = Packing(index, canonical_rows(len(index)), folder / name, PackOptions(1500), None)
        pack(packing)
        assert packing.finish() is not None
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_backbone, data) -> Path:
    """A run that stages nothing."""
    folder = tmp_path_factory.mktemp("plain")
    harness.run(write_spec(folder, tiny_backbone, data), run_dir=folder / "run", quiet=True)
    return folder / "run"


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on another file system than that of the data."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def staged_of(data: Path, memory: Path, name: str = "train") -> StagedSet:
    return StagedSet(open_packed(data / name), staged_folder(memory))


def purging(folder: Path, staged: StagedSet, at: int | None) -> dict[str, Any]:
    """Changes for a spec that make the run meet whole copies, and damage them at a step."""
    (folder / "purge.py").write_text(PURGE)
    options = {"folder": str(staged.folder), "at": at}
    return {
        "plugins": [str(folder / "purge.py")],
        "training.callbacks": [{"plugin": "purge", "options": options}],
    }


def test_copies_that_vanish_or_change_in_the_midst_change_no_bit(
    plain, data, tiny_backbone, memory, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(memory))
    staged = staged_of(data, memory)
    changes = purging(tmp_path, staged, at=12)
    spec = write_spec(tmp_path, tiny_backbone, data, **{"cluster.stage": "scratch", **changes})
    harness.run(spec, run_dir=tmp_path / "run", quiet=True)
    assert_same_result(tmp_path / "run", plain)
    (node,) = json.loads((tmp_path / "run" / "run.json").read_text())["staging"].values()
    assert node["sets"]["data.train"]["files"] == len(staged.items)
    assert node["sets"]["data.train"]["copied_bytes"] == staged.bytes
    assert node["sets"]["data.train"]["folder"] == str(staged.folder)
    said = "\n".join(node["notices"])
    names = [shard.file for shard in staged.index.shards]
    assert f"the staged {names[0]} has vanished; it is read from shared storage" in said
    assert f"the staged {names[1]} holds else than the set; it is read from shared" in said
    assert [item.name for item in staged.missing()] == names[:2]
    # Kept for the next run, which makes what is missing; data.test was staged too.
    again = tmp_path / "again"
    again.mkdir()
    changes = purging(again, staged, at=None)
    (staged.folder / "index.json").unlink()
    spec = write_spec(again, tiny_backbone, data, **{"cluster.stage": "scratch", **changes})
    harness.run(spec, run_dir=again / "run", quiet=True)
    assert staged.is_whole()
    (node,) = json.loads((again / "run" / "run.json").read_text())["staging"].values()
    lost = [item.bytes for item in staged.items if item.name in names[:2]]
    assert node["sets"]["data.train"]["copied_bytes"] == sum(lost)


def test_two_ranks_of_a_node_share_one_copy_which_goes_with_the_job(
    plain, data, tiny_backbone, memory, tmp_path
):
    staged = staged_of(data, memory)
    changes = purging(tmp_path, staged, at=None)
    spec = write_spec(tmp_path, tiny_backbone, data, **{"cluster.stage": "scratch", **changes})
    run = ["run", str(spec), "--run-dir", str(tmp_path / "run")]
    ended = run_ranks(
        tmp_path / "logs",
        2,
        *run,
        "-o",
        "cluster.strategy=multiworker",
        each=lambda rank: {"SLURM_TMPDIR": str(memory), "SLURM_JOB_ID": "7"},
    )
    assert_all(ended)
    one, other = curve(tmp_path / "run"), curve(plain)
    assert [dict(line).keys() for line in one] == [dict(line).keys() for line in other]
    for line, same in zip(map(dict, one), map(dict, other), strict=True):
        assert line["loss"] == pytest.approx(same["loss"], rel=1e-4)
    (node,) = json.loads((tmp_path / "run" / "run.json").read_text())["staging"].values()
    copies = [text for text in node["notices"] if text.startswith("data.train: ")]
    assert len(copies) == 1, "one rank copies for both"
    assert node["sets"]["data.train"]["copied_bytes"] == staged.bytes
    assert list(memory.iterdir()) == []
