"""Manifests: missing values, left out, filled in or refused."""

from __future__ import annotations

import pytest

from harness.data.manifest import manifest_index, manifest_sets
from harness.data.manifest_columns import ManifestOptions
from harness.errors import DataError
from tests.unit.manifest_helpers import problems, write

MISSING = "file,label,w\na.png,x,1\nb.png,NA,1\nc.png,y,4\ngone.png,y,1\nd.png,y,\ne.png,x,4\n"


def test_what_is_missing_is_left_out_and_counted(tmp_path):
    options = ManifestOptions(weight="w", missing_file="drop", missing_field="drop")
    index = manifest_index(write(tmp_path, MISSING), options)
    assert index.names == ["a.png", "c.png", "e.png"]
    assert index.missing == {"label_dropped": 1, "file_dropped": 1, "weight_dropped": 1}
    assert [note.split(": ")[1] for note in index.notes] == [
        "1 row without file left out",
        "1 row without label left out",
        "1 row without weight left out",
    ]


@pytest.mark.parametrize(("how", "fill"), [("impute_mean", 3.0), ("impute_median", 4.0)])
def test_missing_weights_are_imputed(how, fill, tmp_path):
    options = ManifestOptions(weight="w", missing_file="drop", missing_field=how)
    sets = manifest_sets(write(tmp_path, MISSING), options)
    index = sets.sets["train"]
    assert index.names == ["a.png", "c.png", "d.png", "e.png"]
    assert list(index.weights) == [1, 4, fill, 4] and sets.fill == fill
    assert index.missing["weight_imputed"] == 1
    assert f"taken as {fill:g} ({how})" in index.notes[-1]
    # Elsewhere the training rows' value is taken, not that of the rows themselves.
    for own in ("validation", "test"):
        other = manifest_index(tmp_path / "m.csv", options, ("x", "y"), own=own, fill=9.5)
        assert list(other.weights) == [1, 4, 9.5, 4]
        with pytest.raises(DataError, match="1 rows without weight"):
            manifest_index(tmp_path / "m.csv", options, ("x", "y"), own=own)


def test_what_is_missing_is_an_error_where_that_is_asked_for(tmp_path):
    options = ManifestOptions(weight="w", missing_label="error", missing_field="error")
    found = problems(lambda: manifest_index(write(tmp_path, MISSING), options))
    assert [problem.line for problem in found] == [3, 5, 6]
    for problem, field in zip(found, ("label", "file", "field"), strict=True):
        assert f"data.missing.{field} to drop" in problem.action


def test_na_values_are_what_the_spec_says(tmp_path):
    text = "file,label\na.png,NA\nb.png,-\nc.png,z\n"
    options = ManifestOptions(na_values=("-",))
    assert manifest_index(write(tmp_path, text), options).counts() == {"NA": 1, "z": 1}


@pytest.mark.parametrize("weight", ["-1", "-0.5", "x", "nan", "inf", "1_0", "0,5", "1e999"])
def test_what_is_no_weight(weight, tmp_path):
    text = f'file,label,w\na.png,x,1\nb.png,y,"{weight}"\n'
    (found,) = problems(lambda: manifest_index(write(tmp_path, text), ManifestOptions(weight="w")))
    assert (found.line, found.what, found.got) == (3, "is no weight", repr(weight))


def test_no_weight_at_all_is_refused(tmp_path):
    text = "file,label,w\na.png,x,\nb.png,y,NA\n"
    with pytest.raises(DataError, match="no weight in any row"):
        manifest_index(write(tmp_path, text), ManifestOptions(weight="w"))


def test_a_row_without_group_is_an_error_or_left_out(tmp_path):
    file = write(tmp_path, "file,label,p\na.png,x,1\nb.png,y,\nc.png,y,2\n")
    (found,) = problems(lambda: manifest_index(file, ManifestOptions(group="p")))
    assert (found.line, found.what) == (3, "the row has no group")
    index = manifest_index(file, ManifestOptions(group="p", missing_field="drop"))
    assert index.groups == ["1", "2"] and index.missing == {"group_dropped": 1}
