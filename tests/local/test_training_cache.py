"""Training with decoded examples that are kept: the same bits, and no file is read twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.augment import Augmenter
from harness.data.cache import DecodedCache, InMemory, OnDisk
from harness.data.index import folder_index
from harness.data.order import Order, canonical_rows
from harness.data.pack import pack
from harness.data.pack_plan import PackOptions
from harness.data.packed_examples import packed_examples
from harness.data.packing import Packing
from harness.data.pipeline import Feed
from harness.spec.models_augment import Augment
from tests.local.training_helpers import assert_same_result, call, mischief, write_spec

CLASSES = ["blue", "green", "red"]
SIZE = 16


@pytest.fixture
def data(tmp_path, write_pictures) -> Path:
    write_pictures(tmp_path / "data" / "train", CLASSES, 7, SIZE)
    write_pictures(tmp_path / "data" / "test", CLASSES, 2, SIZE)
    (tmp_path / "data" / "train" / "red" / "broken.png").write_bytes(b"\x89PNG no more")
    return tmp_path / "data"


def feed_of(index, augment: str, cache: DecodedCache | None) -> Feed:
    order = Order(len(index), 8, 8, 5, 2, 2)
    changes = Augmenter(Augment(rotate_deg=20.0), 5) if augment == "augmented" else None
    return Feed(index, order=order, augment=changes, cache=cache)


def take(dataset, count: int) -> list[dict[str, np.ndarray]]:
    return list(dataset.take(count).as_numpy_iterator())


@pytest.mark.parametrize("augment", ["augmented", "plain"])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_it_gives_the_same_and_reads_each_file_once(data, tmp_path, augment, where):
    index = folder_index(data / "train")
    count = 3 * 3
    wanted = take(feed_of(index, augment, None).training(0, 0, SIZE), count)
    cache = DecodedCache(InMemory() if where == "memory" else OnDisk(tmp_path), 1 << 24)
    feed = feed_of(index, augment, cache)
    first = take(feed.training(0, 0, SIZE), 3)
    assert len(cache) == len(index) - 1, "all but the broken one"
    for file in (data / "train").rglob("*.png"):
        if file.name != "broken.png":
            file.write_bytes(b"gone")
    later = take(feed.training(1, 0, SIZE), count - 3)
    for one, other in zip(wanted, first + later, strict=True):
        for key, value in one.items():
            np.testing.assert_array_equal(other[key], value, err_msg=key)
    assert sum(int((one["mask"] == 0).sum()) for one in later) == 2 * (24 - 21)


def test_evaluation_and_packed_sets_have_it_too(data, tmp_path):
    (data / "train" / "red" / "broken.png").unlink()
    folder = folder_index(data / "train")
    rows = canonical_rows(len(folder))
    packing = Packing(folder, rows, tmp_path / "packed", PackOptions(1500), None)
    pack(packing)
    packing.finish()
    for index in (folder, packed_examples(tmp_path / "packed")):
        cache = DecodedCache(InMemory(), 1 << 24)
        feed, plain = feed_of(index, "plain", cache), feed_of(index, "plain", None)
        wanted = list(plain.evaluation(8, SIZE).as_numpy_iterator())
        for _ in range(2):
            found = list(feed.evaluation(8, SIZE).as_numpy_iterator())
            for one, other in zip(wanted, found, strict=True):
                for key, value in one.items():
                    np.testing.assert_array_equal(other[key], value, err_msg=key)
            assert len(cache) == len(index)
        # Another size is another kind: nothing of the old one is shown.
        small = list(feed.evaluation(8, 8).as_numpy_iterator())
        assert small[0]["image"].shape[1] == 8


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_run_has_the_weights_of_one_without_and_survives_a_kill(
    data, tmp_path, tiny_backbone, where
):
    for name, at in (("none", None), (where, 9)):
        folder = tmp_path / name
        folder.mkdir()
        changes = mischief(folder) if at is None else mischief(folder, at=at)
        changes |= {"data.corrupt": {"limit": "10%"}}
        spec = write_spec(folder, tiny_backbone, data, **changes)
        command = ("run", str(spec), "--run-dir", str(folder / "run"), "-o", f"data.cache={name}")
        code, _, err = call(*command)
        if at is not None:
            assert code == -9
            code, _, err = call(*command)
        assert code == 0, err
    assert_same_result(tmp_path / "none" / "run", tmp_path / where / "run")


def test_a_cache_that_is_full_is_said_once(data, tmp_path, tiny_backbone):
    spec = write_spec(tmp_path, tiny_backbone, data, **{"data.corrupt": {"limit": "10%"}})
    # What the job may use, as SLURM says it: so little that half of it holds but a few pictures.
    plain = ("run", str(spec), "--run-dir", str(tmp_path / "run"), "-o", "data.cache=memory")
    code, _, err = call(*plain, SLURM_JOB_ID="1", SLURM_MEM_PER_NODE="1")
    assert code == 0, err
    assert err.count("data.cache: memory keeps 0 of about") == 2
    assert "the others are decoded in every epoch" in err
    assert (tmp_path / "run" / "FINISHED").exists()


def test_a_disk_that_cannot_be_written_to_is_a_clear_error(data, tmp_path, tiny_backbone):
    changes = {"data.cache": "disk", "cluster.stage": "/proc"}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert code == 5, err
    assert "data.cache: disk cannot write to the scratch folder of this node" in err
    assert "Traceback" not in err
