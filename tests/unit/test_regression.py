"""Numbers as targets: cells, scaling, loss and figures, against plain numpy; and the spec."""

from __future__ import annotations

import json
import math
from array import array
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.manifest import manifest_index
from harness.data.manifest_columns import ManifestOptions
from harness.data.regression import LARGEST, Numbers, Scaling, Values, number_of, scaling_of
from harness.data.sets import open_sets
from harness.data.split import split_validation
from harness.errors import DataError
from harness.spec.models_data import DataSpec

NAN = math.nan


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("12.5", 12.5),
        ("-3", -3.0),
        ("+.5", 0.5),
        ("1.", 1.0),
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("3.4028234e38", 3.4028234e38),
        ("3.5e38", None),
        ("1,5", None),
        ("1_000", None),
        ("nan", None),
        ("inf", None),
        ("0x10", None),
        ("five", None),
        ("12 m", None),
        ("\u0661", None),  # a digit of another script, which float() takes
    ],
)
def test_a_cell_is_a_finite_decimal_number_or_none(cell, number):
    assert number_of(cell) == number


@given(st.floats(-LARGEST, LARGEST))
def test_every_number_that_python_prints_is_read_back(number):
    assert number_of(repr(number)) == number


FLOATS = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


@given(st.lists(st.tuples(FLOATS, st.one_of(FLOATS, st.just(NAN))), min_size=2, max_size=30))
def test_scaling_is_that_of_exact_sums_and_survives_the_record(rows):
    values = Values(array("d", [x for row in rows for x in row]), 2)
    columns = [[row[at] for row in rows if not math.isnan(row[at])] for at in (0, 1)]
    assert values.known() == [len(column) for column in columns]
    if any(len(set(column)) < 2 for column in columns):
        with pytest.raises(DataError, match="hold nothing to learn of the target"):
            scaling_of(values, ("a", "b"))
        return
    scaling = scaling_of(values, ("a", "b"))
    for at, column in enumerate(columns):
        exact = [Fraction(x) for x in column]
        mean = sum(exact) / len(exact)
        spread = math.sqrt(sum((x - mean) ** 2 for x in exact) / len(exact))
        assert scaling.mean[at] == pytest.approx(float(mean), rel=1e-15, abs=1e-12)
        assert scaling.std[at] == pytest.approx(spread, rel=1e-9)
    shuffled = values.subset(reversed(range(len(rows))))
    assert scaling_of(shuffled, ("a", "b")) == scaling
    recorded = json.loads(json.dumps(scaling.to_json(("a", "b"))))
    assert Scaling.of_json(recorded, ("a", "b")) == scaling
    turned = Scaling.of_json(recorded, ("b", "a"))
    assert (turned.mean, turned.std) == (scaling.mean[::-1], scaling.std[::-1])


def test_a_record_of_other_targets_is_refused():
    recorded = Scaling((1.0,), (2.0,)).to_json(("price",))
    with pytest.raises(DataError, match="other targets, got area, allowed: price"):
        Scaling.of_json(recorded, ("area",))


@pytest.mark.parametrize(
    ("column", "got"), [([NAN, NAN], "no value"), ([0.1] * 3, "0.1 for all 3 that have one")]
)
def test_a_target_that_says_nothing_is_refused(column, got):
    with pytest.raises(DataError) as caught:
        scaling_of(Values(array("d", column), 1), ("a",))
    assert caught.value.problems[0].got == got


def test_large_numbers_that_differ_little_keep_their_difference():
    seconds = [1.7e9 + step for step in range(4)]
    values = Values(array("d", seconds), 1)
    scaling = scaling_of(values, ("time",))
    found = Values(values.numbers, 1, scaling).standardised()
    assert found.dtype == np.float32 and found.shape == (4, 1)
    wanted = (np.arange(4) - 1.5) / np.std(np.arange(4))
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-6)


def test_what_is_known_of_nothing():
    assert Numbers.of([NAN]) == Numbers(0)


def table(folder, *rows, name="all.csv"):
    (folder / name).write_text("\n".join(rows) + "\n")
    return folder / name


TEXTS = ManifestOptions(path=None, text="t", label="y", numeric=True)


def test_a_manifest_of_numbers(tmp_path):
    file = table(tmp_path, "t,y,z", "a,1.5,NA", "b,NA,2", "c,NA,NA", "d,-1e3,0")
    both = ManifestOptions(path=None, text="t", labels=("z", "y"), numeric=True)
    index = manifest_index(file, both)
    found = {text: index.values.subset([row]).numbers for row, text in enumerate(index.texts)}
    assert sorted(found) == [b"a", b"b", b"d"]
    np.testing.assert_array_equal(found[b"a"], [NAN, 1.5])
    np.testing.assert_array_equal(found[b"b"], [2, NAN])
    np.testing.assert_array_equal(found[b"d"], [0, -1000])
    assert index.classes == ("z", "y") and index.missing == {"label_dropped": 1}
    assert index.counts() == {"z": 2, "y": 2}
    one = manifest_index(file, TEXTS)
    assert one.classes == ("y",) and one.missing == {"label_dropped": 2}
    # What an example has is a part of the digest: the number, and which column it is of.
    other = table(tmp_path, "t,y,z", "a,1.6,NA", "b,NA,2", "c,NA,NA", "d,-1e3,0", name="b.csv")
    turned = ManifestOptions(path=None, text="t", labels=("y", "z"), numeric=True)
    digests = {manifest_index(file, turned).digest, manifest_index(other, both).digest}
    assert len(digests | {index.digest, one.digest}) == 4


def test_a_cell_that_is_no_number_is_named_with_file_line_and_value(tmp_path):
    file = table(tmp_path, "t,y", "a,1.5", "b,fine", "c,inf", "d,")
    with pytest.raises(DataError) as caught:
        manifest_index(file, TEXTS)
    found = [(one.file, one.line, one.what, one.got) for one in caught.value.problems]
    what = "the target 'y' is no number"
    assert found == [(str(file), 3, what, "'fine'"), (str(file), 4, what, "'inf'")]
    strict = ManifestOptions(path=None, text="t", label="y", numeric=True, missing_label="error")
    with pytest.raises(DataError, match="the row has no value of 'y'"):
        manifest_index(table(tmp_path, "t,y", "a,1.5", "d,"), strict)


@pytest.mark.parametrize("group", [None, "g"])
def test_a_fraction_moves_nothing_when_rows_are_added(tmp_path, group):
    options = ManifestOptions(path=None, text="t", label="y", group=group, numeric=True)
    few = [f"text {n},{n * 0.5},g{n % 20}" for n in range(60)]
    many = few + [f"more {n},{n * 7},h{n % 20}" for n in range(60)]
    held = []
    for name, rows in (("few.csv", few), ("many.csv", many[::-1])):
        index = manifest_index(table(tmp_path, "t,y,g", *rows, name=name), options)
        train, validation = split_validation(index, 0.25, seed=3)
        assert len(train) + len(validation) == len(rows)
        assert len(validation.values) == len(validation) and not validation.notes
        numbers = dict(zip(validation.texts, validation.values[:], strict=True))
        said = {row.split(",")[0].encode(): repr(float(row.split(",")[1])) for row in rows}
        assert all(said[text] == number for text, number in numbers.items())
        held.append(set(numbers))
    assert held[0] == {text for text in held[1] if text.startswith(b"text")} != set()
    assert len(held[0]) < 40


def test_no_folder_gives_numbers(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    data = DataSpec(train=str(tmp_path / "folder.csv"), validation=None)
    with pytest.raises(DataError, match="is no manifest, and gives each example a class"):
        open_sets(data, 1, learned="numbers")
