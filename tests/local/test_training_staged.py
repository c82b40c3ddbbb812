"""Runs that stage their packed data: the bits of those that do not, whatever befalls the copies."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
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
from harness.data.packed_examples import packed_examples
from harness.data.packing import Packing
from harness.data.staging import StagedSet, staged_folder
from harness.spec import load_spec
from harness.worker.datasets import Datasets, Examples, open_datasets
from harness.worker.staged_run import begin_staging, packed_sets
from tests.local.rank_helpers import assert_all, run_ranks
from tests.local.training_helpers import CLASSES, assert_same_result, write_spec

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
    data, tiny_backbone, memory, tmp_path
):
    staged = staged_of(data, memory)
    changes = purging(tmp_path, staged, at=None)
    # That ranks see the batches of one process is shown elsewhere.
    changes["training.phases"] = [{"name": "one", "epochs": 1, "learning_rate": 0.01}]
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
    (node,) = json.loads((tmp_path / "run" / "run.json").read_text())["staging"].values()
    copies = [text for text in node["notices"] if text.startswith("data.train: ")]
    assert len(copies) == 1, "one rank copies for both"
    assert node["sets"]["data.train"]["copied_bytes"] == staged.bytes
    assert list(memory.iterdir()) == []


@pytest.mark.parametrize("sensitive", [False, True])
def test_of_sensitive_data_nothing_stays_on_a_node(
    data, tiny_backbone, memory, tmp_path, sensitive
):
    staged = staged_of(data, memory)
    changes = {"cluster.stage": str(memory), "data.sensitive": sensitive}
    spec = load_spec(write_spec(tmp_path, tiny_backbone, data, **changes)).spec
    sets = Datasets(Examples(packed_examples(data / "train")), None, None)
    told: list[dict[str, Any]] = []
    staging = begin_staging(spec, sets, {}, 1, told.append)
    assert staging is not None
    until = time.monotonic() + 60
    while not any("facts" in one for one in told):
        assert time.monotonic() < until, told
        time.sleep(0.01)
    assert staged.is_whole()
    staging.close()
    assert staged.is_whole() == (not sensitive)
    assert list(memory.iterdir()) == ([] if sensitive else [memory / f"harness-{os.getuid()}"])


def test_data_that_are_not_packed_are_trained_on_and_not_staged(tiny_backbone, data, tmp_path):
    spec = load_spec(
        write_spec(tmp_path, tiny_backbone, data / "pictures", **{"cluster.stage": "scratch"})
    ).spec
    told: list[dict[str, Any]] = []
    sets = open_datasets(spec, lambda note: None)
    assert begin_staging(spec, sets, {"SLURMD_NODENAME": "n3"}, 1, told.append) is None
    (notice,) = told
    assert notice["node"] == "n3"
    assert notice["text"].startswith("nothing is staged: the data are not packed")


def test_a_packed_target_is_staged_too(data, tmp_path):
    target = Examples(packed_examples(data / "train"))
    sets = Datasets(Examples(folder_index(data / "pictures" / "train")), None, None, target=target)
    assert packed_sets(sets) == {"adaptation.target": [target.index.packed]}
