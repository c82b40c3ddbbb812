"""TFRecord files of others with several labels or numbers: what is learned of each record."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from harness.data.packed_facts import targets_of  # noqa: E402
from harness.data.record_files import RecordOptions  # noqa: E402
from harness.data.record_index import record_index  # noqa: E402
from harness.data.rows import labels_of  # noqa: E402
from harness.errors import DataError  # noqa: E402
from harness.spec.models_data import DataSpec  # noqa: E402
from harness.spec.models_features import Features  # noqa: E402
from harness.spec.several_labels import regression, several_labels  # noqa: E402
from tests.unit.record_helpers import example, flip, record_start, write_records  # noqa: E402

LISTS = RecordOptions("i", "l", learned="labels")
HOT = replace(LISTS, multi_hot=True, names=("a", "b"))
CELLS = RecordOptions("i", labels=("a", "b"), learned="labels")
ONE = RecordOptions("i", "l", learned="numbers")
TWO = replace(ONE, names=("x", "y"))
EMPTY = tf.train.Feature(int64_list=tf.train.Int64List())


def record(**values) -> bytes:
    """With a picture; None is a feature with an empty list of whole numbers."""
    held = {name: value for name, value in values.items() if value is not None}
    message = tf.train.Example.FromString(example({"i": b"picture"} | held))
    for name, value in values.items():
        if value is None:
            message.features.feature[name].CopyFrom(EMPTY)
    return message.SerializeToString()


def index_of(folder: Path, options: RecordOptions, *records: bytes, **more):
    write_records(folder / "r.tfrecord", records)
    return record_index(folder / "r.tfrecord", options, **more)


def refusal(folder: Path, options: RecordOptions, *records: bytes, **more) -> DataError:
    with pytest.raises(DataError) as caught:
        index_of(folder, options, *records, **more)
    return caught.value


# --- several labels


@pytest.mark.parametrize(
    ("options", "lists", "classes", "targets"),
    [
        (LISTS, [["b", "a"], ["b"], None, ["a", "a"]], ("a", "b"), ["11", "01", "00", "10"]),
        (LISTS, [[10, 2], [2], None], ("2", "10"), ["11", "10", "00"]),
        (replace(LISTS, names=("x", "y", "z")), [[2, 0], [1]], ("x", "y", "z"), ["101", "010"]),
        (replace(LISTS, names=("b", "c", "a")), [["a"], ["b"]], ("b", "c", "a"), ["001", "100"]),
        (HOT, [[1, 0], [0.0, 1.0], [0, 0]], ("a", "b"), ["10", "01", "00"]),
    ],
)
def test_labels_in_one_feature(tmp_path, options, lists, classes, targets):
    index = index_of(tmp_path, options, *(record(l=one) for one in lists))
    assert index.classes == classes
    assert list(index.targets) == targets and not index.states
    assert set(index.labels) == {0}
    counts = [sum(one[at] == "1" for one in targets) for at in range(len(classes))]
    assert list(index.counts().values()) == counts
    wanted = [[float(sign) for sign in one] for one in targets]
    assert labels_of(index).tolist() == wanted


def test_a_feature_for_each_label_with_uncertain_and_missing_ones(tmp_path):
    options = replace(CELLS, uncertain=(-1, "one"))
    records = [record(a=1, b=0), record(a=-1, b=1), record(a=0), record(a=math.nan, b=0.0)]
    records += [record(), record(a=None, b=None)]
    index = index_of(tmp_path, options, *records)
    assert list(index.targets) == ["10", "11", "0?", "?0"]
    assert list(index.states) == ["10", "-1", "0?", "?0"]
    assert index.missing == {"label_dropped": 2}
    assert targets_of(index, [1, 2]).tolist() == [[-1, 1], [0, -2]]
    assert list(index.subset([1, 3]).targets) == ["11", "?0"]
    ignored = index_of(tmp_path, replace(options, uncertain=(-1, "ignore")), *records)
    assert list(ignored.targets) == ["10", "?1", "0?", "?0"]
    assert ignored.digest != index.digest


@pytest.mark.parametrize(
    ("options", "last", "what"),
    [
        (LISTS, {"l": 0.5}, "cannot be used"),
        (LISTS, {"l": [b"\xff"]}, "no UTF-8"),
        (LISTS, {"l": ["a", ""]}, "cannot be used"),
        (LISTS, {"l": [-1]}, "out of range"),
        (replace(LISTS, names=("x", "y")), {"l": [2]}, "out of range"),
        (HOT, {"l": [1, 0, 1]}, "cannot be used"),
        (HOT, {"l": [2, 0]}, "neither present nor absent"),
        (HOT, {"l": ["a"]}, "cannot be used"),
        (CELLS, {"a": [1, 1], "b": 0}, "cannot be used"),
        (replace(CELLS, missing_label="error"), {"a": 1}, "has no value of 'b'"),
        (replace(LISTS, missing_label="error"), {}, "has no feature 'l'"),
        (ONE, {"l": math.inf}, "is no number"),
        (ONE, {"l": "12"}, "cannot be used"),
        (ONE, {"l": [1.0, 2.0]}, "cannot be used"),
        (TWO, {"l": [1.0]}, "cannot be used"),
        (replace(TWO, missing_label="error"), {"l": [1.0, math.nan]}, "has no value of 'y'"),
    ],
)
def test_what_a_record_may_not_hold(tmp_path, options, last, what):
    first = {"l": [1, 0]} if options is not ONE else {"l": 1.0}
    first |= {"a": 1, "b": 0}
    if options.learned == "labels" and not options.in_cells and isinstance(last.get("l"), list):
        first["l"] = ["a", "b"] if isinstance(last["l"][0], str | bytes) else [0, 1]
    error = refusal(tmp_path, options, record(**first), record(**last))
    assert what in error.problems[0].what and "record 1 " in error.problems[0].what


def test_labels_of_two_kinds_one_only_and_strange_ones(tmp_path):
    assert "two kinds" in str(refusal(tmp_path, LISTS, record(l=["a"]), record(l=[1])))
    assert "one label only" in str(refusal(tmp_path, LISTS, record(l=["a"]), record(l=None)))
    assert "no label" in str(refusal(tmp_path, LISTS, record(l=None)))
    error = refusal(tmp_path, LISTS, record(l=["a", "c"]), classes=("a", "b"))
    assert "none of those that are learned" in str(error) and error.problems[0].got == "'c'"
    index = index_of(tmp_path, LISTS, record(l=["b"]), classes=("a", "b"))
    assert index.targets == ["01"] and "no examples of 1 of 2 labels: 'a'" in index.notes[0]


def test_other_labels_than_those_of_training_are_refused(tmp_path):
    for options in (CELLS, TWO):
        error = refusal(tmp_path, options, record(l=[1, 2], a=1, b=1), classes=("b", "a"))
        assert "than those of the training data" in str(error)


# --- numbers


def test_one_number_a_vector_and_several_features(tmp_path):
    index = index_of(tmp_path, ONE, record(l=0.1), record(l=7), record(l=math.nan), record())
    assert index.classes == ("l",)
    assert index.values.numbers.tolist() == [float(np.float32(0.1)), 7.0]
    assert index.missing == {"label_dropped": 2}
    index = index_of(tmp_path, TWO, record(l=[1.0, 2.0]), record(l=[3.0, math.nan]))
    assert index.classes == ("x", "y")
    assert [one.known for one in index.values.each()] == [2, 1]
    assert index.subset([1]).values.numbers[0] == 3.0
    cells = RecordOptions("i", labels=("x", "y"), learned="numbers")
    other = index_of(tmp_path, cells, record(x=1.0, y=2), record(x=3.0))
    np.testing.assert_array_equal(other.values.numbers, index.values.numbers)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(width=32, allow_infinity=False)] * 2), min_size=1))
def test_numbers_are_those_that_tensorflow_reads(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("numbers")
    records = [record(l=list(row)) for row in rows]
    kept = [row for row in rows if not all(map(math.isnan, row))]
    if not kept:
        assert "has no record" in str(refusal(folder, TWO, *records))
        return
    index = index_of(folder, TWO, *records)
    assert len(index) == len(kept)
    parsed = [tf.train.Example.FromString(one).features.feature["l"] for one in records]
    wanted = [list(one.float_list.value) for one in parsed]
    wanted = [row for row in wanted if not all(map(math.isnan, row))]
    found = np.asarray(index.values.numbers).reshape(-1, 2)
    np.testing.assert_array_equal(found, wanted)


def test_what_is_damaged_has_no_number_and_moves_nothing(tmp_path):
    file = tmp_path / "r.tfrecord"
    records = [record(l=float(n)) for n in range(20)]
    write_records(file, records)
    # The highest byte of its number, which makes it -0.75.
    flip(file, file.read_bytes().index(np.float32(3).tobytes(), record_start(file, 3)) + 3)
    index = record_index(file, ONE)
    assert len(index) == 20
    assert math.isnan(index.values.numbers[3])
    assert [index.values.numbers[row] for row in (2, 4, 19)] == [2.0, 4.0, 19.0]


# --- what a spec may say


@pytest.mark.parametrize(
    ("features", "path"),
    [
        ({"label": "l", "labels": ["a"]}, "label"),
        ({"labels": ["a", "a"]}, "labels"),
        ({"labels": ["a"], "names": ["x"]}, "names"),
        ({"label": "l", "multi_hot": True}, "names"),
        ({}, "label"),
    ],
)
def test_features_that_do_not_go_together(features, path):
    given = Features.model_construct(
        **{name: tuple(one) if isinstance(one, list) else one for name, one in features.items()}
    )
    assert [one.path for one in given.checks()] == [path]


@pytest.mark.parametrize(
    ("task", "features", "more", "path"),
    [
        ("image_classification", {"labels": ["a"]}, {}, "data.features.labels"),
        (
            "image_classification",
            {"label": "l", "multi_hot": True, "names": ["a"]},
            {},
            "data.features.multi_hot",
        ),
        ("image_multilabel", {"label": "l"}, {"uncertain": {}}, "data.uncertain"),
        (
            "image_multilabel",
            {"labels": ["a"], "multi_hot": True},
            {},
            "data.features.multi_hot",
        ),
    ],
)
def test_features_that_do_not_go_with_a_task(task, features, more, path):
    data = {"train": "r-*", "features": {"image": "i"} | features} | more
    found = several_labels(task, DataSpec.model_validate(data))
    assert [one.path for one in found] == [path]


def test_records_of_several_labels_and_numbers_are_taken():
    data = DataSpec.model_validate({"train": "r-*", "features": {"image": "i", "label": "l"}})
    assert not list(several_labels("image_multilabel", data))
    assert not list(regression(data, 0.0))
    hot = {"image": "i", "label": "l", "multi_hot": True, "names": ["a"]}
    data = DataSpec.model_validate({"train": "r-*", "features": hot})
    assert [one.path for one in regression(data, 0.0)] == ["data.features.multi_hot"]
