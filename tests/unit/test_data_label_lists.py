"""Manifests with a column that lists the labels of each example."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.manifest import manifest_index, manifest_sets
from harness.data.manifest_columns import ManifestOptions
from harness.data.multilabel import listed_labels, signs_of
from harness.errors import DataError
from harness.spec.models_data import DataSpec
from harness.spec.several_labels import regression, several_labels
from tests.unit.manifest_helpers import problems, write

OPTIONS = ManifestOptions(several=True, separator="|")
ROWS = "file,label\na.png,edema|fracture\nb.png,\nc.png,NA\nd.png, fracture \n"


@pytest.mark.parametrize(
    ("cell", "separator", "names"),
    [
        ("", "|", []),
        ("b|a", "|", ["a", "b"]),
        ("b | a|b", "|", ["a", "b"]),
        ("a b", "|", ["a b"]),
        ("a  b\ta", " ", ["a", "b"]),
        ("a, b", ",", ["a", "b"]),
        ("a::b", "::", ["a", "b"]),
        ("a||b", "|", None),
        ("a|", "|", None),
        ("|", "|", None),
        ("| a", "|", None),
    ],
)
def test_a_cell_lists_labels(cell, separator, names):
    assert listed_labels(cell, separator) == names


@given(st.sets(st.sampled_from("abcdefgh")), st.permutations("abcdefgh"))
def test_the_signs_are_those_of_the_labels_in_their_order(names, classes):
    signs = signs_of(names, classes)
    assert {name for name, sign in zip(classes, signs, strict=True) if sign == "1"} == names
    assert len(signs) == len(classes) and set(signs) <= {"0", "1"}


def test_an_empty_cell_has_no_label_and_a_missing_one_is_left_out(tmp_path):
    index = manifest_index(write(tmp_path, ROWS), OPTIONS)
    assert index.classes == ("edema", "fracture")
    assert index.names == ["a.png", "b.png", "d.png"]
    assert index.targets == ["11", "00", "01"] and not index.states
    assert index.counts() == {"edema": 1, "fracture": 2}
    assert index.missing == {"label_dropped": 1}
    assert set(index.labels) == {0}
    assert [note for note in index.notes if "warning" in note] == []


def test_a_missing_cell_may_be_an_error(tmp_path):
    options = ManifestOptions(several=True, separator="|", missing_label="error")
    (found,) = problems(lambda: manifest_index(write(tmp_path, ROWS), options))
    assert (found.line, found.what) == (4, "the row has no label")


def test_the_same_data_in_columns_have_the_same_targets_and_digest(tmp_path):
    lists = manifest_index(write(tmp_path, ROWS), OPTIONS)
    text = "file,fracture,edema\na.png,1,1\nb.png,0,0\nc.png,,\nd.png,1,0\n"
    options = ManifestOptions(several=True, labels=("edema", "fracture"))
    columns = manifest_index(write(tmp_path, text, "columns.csv", files="-"), options)
    assert columns.targets == lists.targets
    assert columns.digest == lists.digest


def test_listed_names_give_the_order_and_what_may_stand_there(tmp_path):
    options = ManifestOptions(several=True, separator="|", labels=("fracture", "mass", "edema"))
    index = manifest_index(write(tmp_path, ROWS), options)
    assert index.classes == ("fracture", "mass", "edema")
    assert index.targets == ["101", "000", "100"]
    (note,) = (note for note in index.notes if "labels that" in note)
    assert note.endswith("has no examples of 1 of 3 labels that data.columns.labels names: 'mass'")
    options = ManifestOptions(several=True, separator="|", labels=("fracture", "mass"))
    (found,) = problems(lambda: manifest_index(write(tmp_path, ROWS), options))
    assert (found.line, found.got) == (2, "'edema'")
    assert "none of those that are learned" in found.what


def test_validation_rows_may_lack_a_label_and_have_no_other(tmp_path):
    options = ManifestOptions(several=True, separator=";", split="use")
    rows = "file,label,use\na.png,x;y,train\nb.png,y,train\nc.png,{},val\n"
    sets = manifest_sets(write(tmp_path, rows.format("x")), options).sets
    assert sets["validation"].targets == ["10"]
    (note,) = sets["validation"].notes
    assert "has no examples of 1 of 2 classes: 'y'" in note
    (found,) = problems(lambda: manifest_sets(write(tmp_path, rows.format("x;z")), options))
    assert (found.line, found.got) == (4, "'z'")


def test_what_a_trained_model_knows_is_held_against_another_manifest(tmp_path):
    text = "file,label\na.png,b\nc.png,\n"
    options = OPTIONS.beside(("b", "a"))
    assert options.labels == ("b", "a")
    index = manifest_index(write(tmp_path, text), options, ("b", "a"), own="test")
    assert index.targets == ["10", "00"]
    options = ManifestOptions(several=True, separator="|", labels=("a", "b"))
    with pytest.raises(DataError, match="other labels than those of the training data"):
        manifest_index(write(tmp_path, text), options, ("b", "a"), own="test")


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("a.png,x\nb.png,x\n", "has one label only"),
        ("a.png,\nb.png,\n", "has no label in any row"),
        ("a.png,x|y\nb.png,x||y\n", "names an empty label"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path, rows, what):
    (found,) = problems(lambda: manifest_index(write(tmp_path, "file,label\n" + rows), OPTIONS))
    assert what in found.what


def test_a_separator_that_stands_nowhere_is_warned_of(tmp_path):
    rows = "file,label\na.png,x;y\nb.png,y\n"
    (note,) = manifest_index(write(tmp_path, rows), OPTIONS).notes
    assert "no example of two labels: is '|' what stands between them" in note
    options = ManifestOptions(several=True, separator=";")
    assert not manifest_index(write(tmp_path, rows), options).notes


@pytest.mark.parametrize(
    ("columns", "more", "path"),
    [
        ({"labels": ["a|b"]}, {}, "data.columns.labels"),
        ({"labels": [" a"]}, {}, "data.columns.labels"),
        ({"labels": ["a", "a"]}, {}, "data.columns.labels"),
        ({"label_separator": "| "}, {}, "data.columns.label_separator"),
        ({}, {"uncertain": {}}, "data.uncertain"),
    ],
)
def test_what_does_not_go_with_a_separator(columns, more, path):
    columns = {"label": "findings", "label_separator": "|"} | columns
    data = DataSpec.model_validate({"train": "a.csv", "columns": columns, **more})
    assert [one.path for one in several_labels("image_multilabel", data)] == [path]


def test_a_separator_is_of_multilabel_tasks():
    data = DataSpec.model_validate({"train": "a.csv", "columns": {"label_separator": "|"}})
    assert not list(several_labels("text_multilabel", data))
    path = "data.columns.label_separator"
    assert [one.path for one in several_labels("image_classification", data)] == [path]
    assert [one.path for one in regression(data, 0.0)] == [path]
    with pytest.raises(ValueError, match="label_separator"):
        DataSpec.model_validate({"train": "a.csv", "columns": {"label_separator": ""}})
