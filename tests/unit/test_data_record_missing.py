"""TFRecord files of others whose records lack a weight or a group."""

from __future__ import annotations

from dataclasses import replace

import pytest

tf = pytest.importorskip("tensorflow")

from harness.data.record_files import RecordOptions  # noqa: E402
from harness.data.record_index import record_index  # noqa: E402
from harness.errors import DataError  # noqa: E402
from tests.unit.record_helpers import example, flip, record_start, write_records  # noqa: E402

OPTIONS = RecordOptions("image/encoded", "label")
GOOD = {"image/encoded": b"x", "label": 1}


@pytest.mark.parametrize(
    ("policy", "weights", "missing"),
    [
        ("impute_mean", [1.0, 2.0, 6.0, 3.0, 3.0], {"weight_imputed": 2}),
        ("impute_median", [1.0, 2.0, 6.0, 2.0, 2.0], {"weight_imputed": 2}),
        ("drop", [1.0, 2.0, 6.0], {"weight_dropped": 2}),
    ],
)
def test_missing_weights_are_filled_in_or_left_out(tmp_path, policy, weights, missing):
    given = [{"w": 1.0}, {"w": 2}, {"w": 6.0}, {"w": float("nan")}, {}]
    made = [example(GOOD | {"label": n % 2} | one) for n, one in enumerate(given)]
    file = write_records(tmp_path / "a.tfrecord", made)
    options = replace(OPTIONS, weight="w", missing_field=policy)
    index = record_index(file, options)
    assert list(index.weights) == weights and index.missing == missing
    assert index.weight_fill == (weights[3] if policy != "drop" else None)
    how = f"taken as {weights[-1]:g} ({policy})" if policy != "drop" else "left out"
    assert any(
        f"2 records without weight{',' * (policy != 'drop')} {how}" in n for n in index.notes
    )
    if policy != "drop":  # of validation data what stands for it is that of training
        other = record_index(file, replace(options, fill=0.5))
        assert list(other.weights)[3:] == [0.5, 0.5]
        assert other.digest != index.digest


def test_a_damaged_record_does_not_count_for_the_mean_weight(tmp_path):
    made = [example(GOOD | {"label": n % 2, "w": 4.0}) for n in range(5)]
    made.append(example(GOOD))  # label 1, and no weight
    file = write_records(tmp_path / "a.tfrecord", made)
    flip(file, record_start(file, 2) + 12)  # the first byte of its example
    index = record_index(file, replace(OPTIONS, weight="w", limit=1.0))
    assert len(index) == 6
    assert (index.weight_fill, index.weights[5]) == (4.0, 4.0)


def test_records_without_any_weight_are_refused(tmp_path):
    file = write_records(tmp_path / "a.tfrecord", [example(GOOD | {"label": n}) for n in (0, 1)])
    with pytest.raises(DataError, match="has no weight in any record"):
        record_index(file, replace(OPTIONS, weight="w"))


def test_records_without_group_may_be_left_out(tmp_path):
    made = [example(GOOD | {"label": n % 2, "g": b"who" if n else b""}) for n in range(4)]
    file = write_records(tmp_path / "a.tfrecord", made)
    index = record_index(file, replace(OPTIONS, group="g", missing_field="drop"))
    assert (list(index.groups), index.missing) == (["who"] * 3, {"group_dropped": 1})
