"""Manifests: several data sets in one, their classes and groups."""

from __future__ import annotations

import pytest

from harness.data.manifest import manifest_index, manifest_sets
from harness.data.manifest_columns import ManifestOptions, looks_like_group
from tests.unit.manifest_helpers import TWO, problems, write


def test_classes_of_the_training_data_hold(tmp_path):
    file = write(tmp_path, "file,label\na.png,x\nb.png,y\n")
    index = manifest_index(file, classes=("w", "x", "y"), own="test")
    assert list(index.labels) == [1, 2] and "no examples of 1 of 3 classes: 'w'" in index.notes[0]
    (found,) = problems(lambda: manifest_index(file, classes=("x", "z"), own="test"))
    assert (found.line, found.got, found.allowed) == (3, "'y'", "'x', 'z'")


SPLIT = """\
file,label,use
a.png,x,Train
b.png,y,training
c.png,x,VAL
d.png,y,dev
e.png,y,test
f.png,x,valid
"""


BY_USE = ManifestOptions(split="use")


def test_one_manifest_holds_three_sets(tmp_path):
    sets = manifest_sets(write(tmp_path, SPLIT), BY_USE).sets
    names = {split: index.names for split, index in sets.items()}
    assert names == {
        "train": ["a.png", "b.png"],
        "validation": ["c.png", "d.png", "f.png"],
        "test": ["e.png"],
    }
    assert "(test) has no examples of 1 of 2 classes: 'x'" in sets["test"].notes[0]
    alone = manifest_index(tmp_path / "m.csv", BY_USE, ("x", "y"), own="validation")
    assert alone.names == names["validation"] and alone.digest == sets["validation"].digest
    some = manifest_sets(tmp_path / "m.csv", BY_USE, wanted=("train", "test"))
    assert some.unused == {"validation": 3}


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("VAL", "holdout", 4, "is no split"),
        ("VAL", "", 4, "the row says no split"),
        ("y,test", "z,test", 6, "has a class that the training data does not have"),
        ("e.png", "a.png", 6, "names the same file as line 2"),
        ("use", "fold", 1, "there is no column 'use'"),
        ("a.png,x,Train\nb.png,y,training", "a.png,x,test", None, "no examples for train"),
    ],
)
def test_what_is_refused_of_splits(old, new, line, what, tmp_path):
    file = write(tmp_path, SPLIT.replace(old, new))
    (found,) = problems(lambda: manifest_sets(file, BY_USE))
    assert found.line == line and what in found.what


def test_only_training_needs_the_column_of_splits(tmp_path):
    index = manifest_index(write(tmp_path, TWO), BY_USE, ("x", "y"), own="test")
    assert len(index) == 2


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *((name, True) for name in ("patient", "PatientID", "patient_id", "Subjects", "SITE")),
        *((name, True) for name in ("speaker no", "StudyInstanceUID", "user-hash", "case")),
        *((name, False) for name in ("label", "user_rating", "uppercase", "website", "id", "")),
    ],
)
def test_names_that_look_like_a_group(name, is_one):
    assert looks_like_group(name) is is_one


def test_a_group_that_nobody_uses_is_a_warning(tmp_path):
    file = write(tmp_path, "file,label,patient,site\na.png,x,1,u\nb.png,y,2,u\n")
    (note,) = manifest_index(file).notes
    assert note.startswith("warning") and "'patient', 'site'" in note
    (note,) = manifest_index(file, ManifestOptions(group="patient")).notes
    assert "'site'" in note and "'patient'" not in note
