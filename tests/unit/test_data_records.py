"""TFRecord files of others: found, walked through, and what is wrong with them told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")
from harness.data.frames import crc32c  # noqa: E402
from harness.data.record_files import names_in, record_files  # noqa: E402
from harness.data.record_index import record_index  # noqa: E402
from harness.data.split import split_validation  # noqa: E402
from harness.data.wire import Held, NoExample, as_wav, features, first_bytes, numbers  # noqa: E402
from harness.errors import DataError  # noqa: E402
from tests.unit.record_helpers import example, write_records  # noqa: E402
from tests.unit.record_index_helpers import (  # noqa: E402
    NAMES,
    OPTIONS,
    folder,
    records,
)

__all__ = ["folder"]  # a fixture, found by its name


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.one_of(
            st.binary(max_size=300),
            st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=9),
            st.lists(st.floats(width=32, allow_nan=False), max_size=9),
        ),
        max_size=5,
    )
)
def test_features_are_those_of_the_parser(values):
    raw = example(values)
    parsed = tf.train.Example.FromString(raw).features.feature
    found = features(Held(raw), 0, len(raw))
    assert found.keys() == parsed.keys()
    for name, one in found.items():
        wanted = parsed[name]
        if wanted.WhichOneof("kind") == "bytes_list" and wanted.bytes_list.value:
            assert first_bytes(Held(raw), one) == wanted.bytes_list.value[0]
        elif wanted.WhichOneof("kind") == "float_list":
            assert numbers(Held(raw), one).tolist() == list(wanted.float_list.value)
        elif wanted.WhichOneof("kind") == "int64_list":
            assert numbers(Held(raw), one).tolist() == list(wanted.int64_list.value)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_what_is_no_example_is_said_to_be_none_and_nothing_else_happens(raw):
    try:
        for one in features(Held(raw), 0, len(raw)).values():
            first_bytes(Held(raw), one)
            numbers(Held(raw), one)
    except NoExample:
        pass


def test_the_checksum_of_lengths_is_that_of_the_library():
    from google_crc32c import value

    for raw in (b"", b"\0" * 8, bytes(range(8)), b"\xff" * 8):
        assert crc32c(raw) == value(raw)


def test_samples_become_a_recording_that_is_read_as_they_are():
    audio = pytest.importorskip("harness.data.audio")
    floats = np.array([0.5, -0.25, 1.0], np.float32)
    assert audio.read_audio(as_wav(floats, 8000), 8000).tolist() == floats.tolist()
    whole = np.array([16384, -32768, 0], np.int64)
    assert audio.read_audio(as_wav(whole, 8000), 8000).tolist() == [0.5, -1.0, 0.0]
    assert as_wav(np.array([1 << 20]), 8000) == b""


def test_examples_are_found_where_they_are(folder):
    index = record_index(folder, OPTIONS)
    assert len(index) == 10
    assert index.classes == NAMES
    assert [index.classes[label] for label in index.labels] == [NAMES[n % 3] for n in range(5)] * 2
    assert index.names[6] == "train-00001-of-00002#00000001"
    assert list(index.names) == sorted(index.names)
    assert [index.content(row) for row in range(10)] == [b"picture %d" % n for n in range(5)] * 2
    assert index.counts() == {"ant": 4, "bee": 4, "cat": 2}
    assert index.digest.startswith("records:")
    assert record_index(folder, OPTIONS).digest == index.digest
    assert record_index(folder, replace(OPTIONS, label="n")).digest != index.digest


@pytest.mark.parametrize("size", [1, 5000, 70_000])
def test_large_features_are_stepped_over(tmp_path, size):
    made = records(9, pad=b"x" * size)
    index = record_index(write_records(tmp_path / "a.tfrecord", made), OPTIONS)
    assert [index.content(row) for row in range(9)] == [b"picture %d" % n for n in range(9)]
    assert index.sizes.tolist() == list(map(len, made))


@settings(max_examples=25, deadline=None)
@given(rows=st.sets(st.integers(0, 9), min_size=1), inner=st.data())
def test_a_part_has_its_rows_and_so_has_a_part_of_it(tmp_path_factory, rows, inner):
    folder = tmp_path_factory.mktemp("records")
    for shard in range(2):
        write_records(folder / f"train-{shard:05d}-of-00002", records(5))
    whole = record_index(folder, OPTIONS)
    part = whole.subset(sorted(rows))
    some = sorted(inner.draw(st.sets(st.integers(0, len(part) - 1), min_size=1)))
    small = part.subset(some)
    wanted = [sorted(rows)[row] for row in some]
    assert list(small.rows) == wanted
    assert small.whole == 10
    assert list(small.names) == [whole.names[row] for row in wanted]
    assert list(small.labels) == [whole.labels[row] for row in wanted]
    assert [small.content(n) for n in range(len(some))] == [whole.content(row) for row in wanted]
    assert len({whole.digest, part.digest, whole.subset([0]).digest}) == (2 if rows == {0} else 3)


def test_a_fraction_is_split_off_by_group(tmp_path):
    made = [
        example({"image/encoded": b"x", "label": NAMES[n % 3], "who": n // 6, "w": n / 2})
        for n in range(60)
    ]
    file = write_records(tmp_path / "a.tfrecord", made)
    index = record_index(file, replace(OPTIONS, group="who", weight="w"))
    assert list(index.weights) == [n / 2 for n in range(60)]
    train, held = split_validation(index, 0.3, 1)
    assert len(train) + len(held) == 60
    assert not set(train.groups) & set(held.groups)
    assert list(held.weights) == [row / 2 for row in held.rows]


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        ([10, 2, 2], (), ("2", "10")),
        ([1, 0, 1], ("no", "yes", "maybe"), ("no", "yes", "maybe")),
        (["b", "a", "b"], (), ("a", "b")),
    ],
)
def test_classes(tmp_path, labels, names, classes):
    made = [example({"image/encoded": b"x", "label": label}) for label in labels]
    options = replace(OPTIONS, names=names)
    index = record_index(write_records(tmp_path / "a.tfrecord", made), options)
    assert index.classes == classes
    said = [names[label] if names else str(label) for label in labels]
    assert [index.classes[label] for label in index.labels] == said
    absent = [name for name in classes if name not in said]
    assert bool(index.notes) == bool(absent)
    assert all(name in index.notes[0] for name in absent)


def test_other_data_have_the_classes_of_the_training(folder):
    index = record_index(folder, OPTIONS, ("bee", "ant", "cat", "dog"))
    assert [index.classes[label] for label in index.labels][:2] == ["ant", "bee"]
    assert "no examples of 1 of 4 classes: 'dog'" in index.notes[0]
    with pytest.raises(DataError, match="a class that the training data does not have, got 'cat'"):
        record_index(folder, OPTIONS, ("ant", "bee"))


def test_files_by_folder_file_and_pattern(folder):
    for name in ("validation-00000-of-00001", ".hidden.tfrecord", "labels.txt"):
        (folder / name).write_bytes(b"")
    wanted = ["train-00000-of-00002", "train-00001-of-00002"]
    assert record_files(folder) == (folder, [*wanted, "validation-00000-of-00001"], {"txt": 1})
    assert record_files(folder / "train-*") == (folder, wanted, {})
    assert record_files(folder / wanted[1]) == (folder, wanted[1:], {})
    with pytest.raises(DataError, match=r"test-\* names no TFRecord file"):
        record_files(folder / "test-*")
    with pytest.raises(DataError, match="cannot be read"):
        record_files(folder / "none" / "train-*")


def test_names_in_a_file(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("ant\nbee\n")
    assert names_in(file) == ("ant", "bee")
    for text in ("ant\n\nbee", "ant\nant", "ant"):
        file.write_text(text)
        with pytest.raises(DataError, match="does not name the classes"):
            names_in(file)
