"""Directories of TensorFlow Datasets: which files and features are meant, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

from harness.data.media import AUDIO, TEXT
from harness.data.record_files import RecordOptions
from harness.data.sets import open_index, open_sets
from harness.data.tfds import is_tfds, tfds_files, tfds_options
from harness.errors import DataError
from harness.spec.models_data import DataSpec
from tests.unit.record_helpers import example, write_records, write_tfds

NAMES = ("red", "green")


def some(count: int) -> list[bytes]:
    return [example({"image": b"p%d" % n, "id": "x", "label": n % 2}) for n in range(count)]


@pytest.fixture
def folder(tmp_path) -> Path:
    splits = {"train": [some(5), some(3)], "test": [some(4)]}
    return write_tfds(tmp_path / "little" / "1.0.0", splits, names=NAMES)


def test_each_field_takes_its_split(folder):
    assert is_tfds(folder)
    assert not is_tfds(folder.parent)
    data = DataSpec(train=str(folder), validation=None, test=str(folder))
    sets = open_sets(data, 1)
    assert (len(sets.train), len(sets.test)) == (8, 4)
    assert sets.train.classes == NAMES
    assert sets.train.names[5] == "little-train.tfrecord-00001-of-00002#00000000"
    assert [sets.test.content(row) for row in range(4)] == [b"p0", b"p1", b"p2", b"p3"]
    assert not sets.notes
    part = open_sets(DataSpec(train=str(folder)), 1)
    assert len(part.train) + len(part.validation) == 8
    with pytest.raises(DataError, match="has no split 'validation', got the splits 'test', 'train"):
        open_sets(DataSpec(train=str(folder), validation=str(folder)), 1)


def test_unlabelled_examples_are_left_out(folder):
    hidden = [example({"image": b"x", "id": "x", "label": -1})]
    splits = {"train": [some(4) + hidden]}
    index = open_index(write_tfds(folder.parent / "2.0.0", splits, names=NAMES))
    assert (len(index), index.missing) == (4, {"label_dropped": 1})


def test_records_that_lack_are_counted_by_what_the_directory_says(folder):
    write_records(folder / "little-train.tfrecord-00001-of-00002", some(2))
    with pytest.raises(DataError, match=r"about 1 examples are lost.*it holds 2 of 3 records"):
        open_index(folder, records=RecordOptions(limit=0.0))
    (folder / "little-train.tfrecord-00001-of-00002").unlink()
    with pytest.raises(DataError, match="00001-of-00002 cannot be read"):
        open_index(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dataset_info.json", {"fileFormat": "array_record"}, "another format, got 'array_record'"),
        ("dataset_info.json", {"splits": [{"name": "train"}]}, "not as TensorFlow Datasets writes"),
        ("features.json", {"featuresDict": None}, "not as TensorFlow Datasets writes"),
    ],
)
def test_what_cannot_be_used_is_said(folder, name, change, message):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=message):
        open_index(folder)


def test_files_outside_of_the_folder_are_refused(folder):
    text = (folder / "dataset_info.json").read_text()
    (folder / "dataset_info.json").write_text(text.replace('"{DATASET}-', '"../{DATASET}-'))
    with pytest.raises(DataError, match="names files outside"):
        tfds_files(folder, "train")


def test_features_by_kind_by_what_the_set_says_or_by_the_spec(folder):
    assert tfds_options(folder, RecordOptions()).example == "image"
    assert tfds_options(folder, RecordOptions(medium=TEXT)).example == "id"
    with pytest.raises(DataError, match="does not say which feature is the audio"):
        tfds_options(folder, RecordOptions(medium=AUDIO))
    file = folder / "features.json"
    held = json.loads(file.read_text())
    features = held["featuresDict"]["features"]
    features["mask"] = features["image"]
    features["sound"] = {"audio": {"sampleRate": "8000"}}
    file.write_text(json.dumps(held))
    assert tfds_options(folder, RecordOptions()).example == "image"
    assert tfds_options(folder, RecordOptions("mask")).example == "mask"
    recordings = RecordOptions(medium=AUDIO, rate_hz=8000)
    assert tfds_options(folder, recordings).example == "sound"
    with pytest.raises(DataError, match="another rate, got 8000"):
        tfds_options(folder, replace(recordings, rate_hz=16000))
