"""TFRecord files of others: what is wrong with them is told, and damage moves nothing."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace

import pytest

tf = pytest.importorskip("tensorflow")
from harness.data.record_index import record_index  # noqa: E402
from harness.data.records import Unreadable  # noqa: E402
from harness.errors import DataError  # noqa: E402
from tests.unit.record_helpers import example, flip, record_start, write_records  # noqa: E402
from tests.unit.record_index_helpers import (  # noqa: E402
    NAMES,
    OPTIONS,
    folder,
    records,
)

__all__ = ["folder"]  # a fixture, found by its name


GOOD = {"image/encoded": b"x", "label": 1}


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (GOOD | {"label": 3}, {"names": ("a", "b")}, "record 2 has a label that is out of range"),
        (GOOD | {"label": -1}, {}, "out of range, got -1, allowed: a number from 0 on"),
        (GOOD | {"label": 0.5}, {}, "feature 'label' that cannot be used, got float"),
        (GOOD | {"label": [1, 2]}, {}, "cannot be used, got 2 numbers"),
        (GOOD | {"label": b"\xff"}, {}, r"cannot be used, got b'\\xff'"),
        ({"label": 1}, {}, "has no feature 'image/encoded', or an empty one"),
        (GOOD | {"image/encoded": 7}, {}, "another kind of feature 'image/encoded', got int64"),
        ({"image/encoded": b"x"}, {"missing_label": "error"}, "has no feature 'label'"),
        (GOOD, {"weight": "w", "missing_field": "error"}, "has no feature 'w', or an empty one"),
        (GOOD | {"w": -1.0}, {"weight": "w"}, "has no weight as feature 'w', got -1"),
        (GOOD | {"w": b"1"}, {"weight": "w"}, "has no weight as feature 'w', got bytes"),
        (GOOD, {"group": "g"}, "has no feature 'g'.*data.missing.field to drop"),
        (GOOD | {"g": b""}, {"group": "g"}, "has no feature 'g', or an empty one"),
        (GOOD | {"g": 0.5}, {"group": "g"}, "feature 'g' that cannot be used, got float"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(tmp_path, values, options, message):
    extra = {name: 1 for name in ("w", "g") if options.keys() & {"weight", "group"}}
    good = [example(GOOD | extra | {"label": n}) for n in (0, 1)]
    file = write_records(tmp_path / "a.tfrecord", [*good, example(values)])
    with pytest.raises(DataError, match=message) as caught:
        record_index(file, replace(OPTIONS, **options))
    assert f"{file}: record 2" in str(caught.value)


def test_records_without_label_or_example_are_left_out_and_counted(tmp_path):
    made = [*records(4), example({"image/encoded": b"x"}), example({"label": "ant"})]
    file = write_records(tmp_path / "a.tfrecord", made)
    index = record_index(file, replace(OPTIONS, missing_file="drop"))
    assert (len(index), index.missing) == (4, {"label_dropped": 1, "file_dropped": 1})
    assert any("1 record without label left out" in note for note in index.notes)


def test_a_name_that_no_feature_has_is_told_with_those_there_are(folder):
    with pytest.raises(DataError, match=r"the features image/encoded \(bytes\), label \(bytes\)"):
        record_index(folder, replace(OPTIONS, label="lable"))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: file.write_bytes(gzip.compress(b"x" * 99)), r"compressed as a whole \(GZIP"),
        (lambda file: write_records(file, records(3), "ZLIB"), r"compressed as a whole \(ZLIB"),
        (lambda file: file.write_text("file,label\na.png,b\n"), "is no TFRecord file"),
        (lambda file: file.write_bytes(b"abc"), "is no TFRecord file"),
        (lambda file: file.write_bytes(b""), "holds no records"),
        (lambda file: write_records(file, records(1)), "one class only, got 'ant'"),
        (lambda file: file.unlink(missing_ok=True), "cannot be read|names no TFRecord"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, write, message):
    file = tmp_path / "a.tfrecord"
    write(file)
    with pytest.raises(DataError, match=message):
        record_index(file, OPTIONS)


def test_a_damaged_record_keeps_its_place_whatever_byte_it_is(tmp_path):
    file = write_records(tmp_path / "a.tfrecord", records(6))
    raw = file.read_bytes()
    for at in range(record_start(file, 2) + 12, record_start(file, 3)):
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 0x11]) + raw[at + 1 :])
        index = record_index(file, OPTIONS)
        assert (len(index), index.missing, index.classes) == (6, {}, NAMES)
        with pytest.raises(Unreadable, match="wrong checksum"):
            index.content(2)
        assert index.content(3) == b"picture 3"


def test_a_damaged_label_is_a_damaged_record_and_no_wrong_label(tmp_path):
    made = [example({"image/encoded": b"x", "label": n % 2}) for n in range(4)]
    file = write_records(tmp_path / "a.tfrecord", made)
    raw = file.read_bytes()
    at = record_start(file, 1)
    place = raw.index(b"\x1a\x03\x0a\x01\x01", at) + 4
    file.write_bytes(raw[:place] + b"\x07" + raw[place + 1 :])
    index = record_index(file, replace(OPTIONS, names=("a", "b")))
    with pytest.raises(Unreadable, match="wrong checksum"):
        index.content(1)


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_cut_file_has_a_last_record_that_cannot_be_read(tmp_path, cut):
    file = write_records(tmp_path / "a.tfrecord", records(6))
    os.truncate(file, record_start(file, 5) + cut)
    index = record_index(file, OPTIONS)
    assert len(index) == 6
    assert "records cannot be read to the end of a.tfrecord" in index.notes[0]
    with pytest.raises(Unreadable, match="ends in the midst of it"):
        index.content(5)
    with pytest.raises(DataError, match="about 1 examples are lost"):
        record_index(file, replace(OPTIONS, limit=0.0))


def test_a_length_that_is_damaged_loses_what_follows_which_the_limit_counts(tmp_path):
    file = write_records(tmp_path / "a.tfrecord", records(10))
    flip(file, record_start(file, 4))
    with pytest.raises(DataError, match="about 6 examples are lost") as caught:
        record_index(file, OPTIONS)
    assert caught.value.exit_code == 4
    assert len(record_index(file, replace(OPTIONS, limit=1.0))) == 5
