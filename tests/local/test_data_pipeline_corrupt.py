"""The pipeline with files that cannot be decoded or have odd names."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from harness.data.corrupt import CorruptRecorder
from harness.data.index import folder_index
from harness.errors import DataError

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")
from harness.data.pipeline import Feed  # noqa: E402
from tests.local.pipeline_helpers import (  # noqa: E402
    SIZE,
    feed_of,
    photos,
    take,
)

__all__ = ["photos"]  # a fixture, found by its name


@pytest.fixture
def copy(photos, tmp_path):
    return shutil.copytree(photos, tmp_path / "copy")


def spoil(root) -> dict[str, str]:
    """Makes one file of each kind of corrupt; names and what the record must say."""
    bad = {
        "a/00.jpg": "truncated JPEG",
        "b/01.png": "truncated PNG",
        "c/02.bmp": "empty",
        "a/03.jpg": "not an image (JPEG, PNG, GIF, BMP or WebP)",
    }
    for name in ("a/00.jpg", "b/01.png"):
        path = root / name
        path.write_bytes(path.read_bytes()[:-40])
    (root / "c/02.bmp").write_bytes(b"")
    (root / "a/03.jpg").write_text("this is no picture")
    # A PNG by the name of .jpg is fine.
    (root / "a/06.jpg").write_bytes((root / "b/04.png").read_bytes())
    return bad


def test_corrupt_files_keep_their_place(photos, copy, tmp_path):
    bad = spoil(copy)
    recorder = CorruptRecorder(45, "skip", 5 / 45, tmp_path / "corrupt.jsonl")
    feed = feed_of(copy, recorder=recorder)
    (copy / "a/09.jpg").unlink()
    bad["a/09.jpg"] = "missing"
    rows_of_bad = [feed.index.names.index(name) for name in bad]

    healthy = take(feed_of(photos).training(0, 0, SIZE), 12)
    got = take(feed.training(0, 0, SIZE), 12)
    changed = feed.index.names.index("a/06.jpg")
    for a, b in zip(got, healthy, strict=True):
        np.testing.assert_array_equal(a["index"], b["index"])
        np.testing.assert_array_equal(a["label"], b["label"])
        is_bad = np.isin(a["index"], rows_of_bad)
        np.testing.assert_array_equal(a["mask"], b["mask"] * ~is_bad)
        assert not a["image"][is_bad].any()
        same = ~is_bad & (a["index"] != changed)
        np.testing.assert_array_equal(a["image"][same], b["image"][same])
        assert a["image"][a["index"] == changed].any(axis=(1, 2, 3)).all()
    read_again = CorruptRecorder(45, "skip", 4 / 45, tmp_path / "corrupt.jsonl")
    assert read_again.reasons == bad
    recorder.check()
    with pytest.raises(DataError, match="5 of 45"):
        read_again.check()


def test_evaluation_records_corrupt_files_too(copy):
    bad = spoil(copy)
    recorder = CorruptRecorder(45, "fail", split="test")
    batches = take(Feed(folder_index(copy), recorder=recorder).evaluation(9, SIZE), 10)
    assert sum(b["mask"].sum() for b in batches) == 45 - len(bad)
    assert recorder.reasons == bad
    with pytest.raises(DataError, match="policy is fail"):
        recorder.check()


def test_a_batch_of_corrupt_files_only(copy):
    for path in copy.glob("*/*.*"):
        path.write_bytes(b"")
    recorder = CorruptRecorder(45, "skip", 1.0)
    batches = take(feed_of(copy, recorder=recorder).training(0, 0, SIZE), 6)
    assert not any(b["mask"].any() or b["image"].any() for b in batches)
    assert len(recorder) == 45


def test_odd_names_are_read(copy):
    for at, name in enumerate(["a b", 'it\'s "q"', "line\nbreak", "日本 é", "%s $HOME *[1]"]):
        (copy / "b" / f"0{3 * at + 1}.png".replace("010", "10").replace("013", "13")).rename(
            copy / "b" / f"{name}.png"
        )
    batches = take(Feed(folder_index(copy)).evaluation(5, SIZE), 100)
    assert sum(b["mask"].sum() for b in batches) == 45
