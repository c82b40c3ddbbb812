"""What a spec names: folders, manifests, columns of splits, and what does not go together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from spec_helpers import changed

from harness.data.sets import Sets, open_sets, open_test
from harness.errors import DataError
from harness.launch.planning import make
from harness.spec import load_spec
from harness.spec.existence import check_paths
from harness.spec.models_data import DataSpec


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pictures in the folders x and y, and manifests of them."""
    names = []
    for label in "xy":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(12):
            name = f"pictures/{label}/{number:02}.png"
            (tmp_path / name).write_bytes(b"x")
            names.append((name, label, f"p{number // 2}"))
    use = ["train"] * 6 + ["val"] * 4 + ["test"] * 2
    rows = [
        f"{name},{label},{group},{use[number % 12]}"
        for number, (name, label, group) in enumerate(names)
    ]
    head = "file,label,patient,use"
    (tmp_path / "all.csv").write_text("\n".join([head, *rows]))
    for part in ("train", "val", "test"):
        some = [row for row in rows if row.endswith(f",{part}")]
        (tmp_path / f"{part}.csv").write_text("\n".join([head, *some]))
    return tmp_path


def spec_of(data: Path, train: str, **fields: Any) -> DataSpec:
    def place(value: Any) -> Any:
        return str(data / value) if isinstance(value, str) else value

    paths = {name: place(fields.pop(name)) for name in ("validation", "test") if name in fields}
    file = data / "job.yaml"
    file.write_text(json.dumps(changed(data={"train": place(train), **paths, **fields})))
    return load_spec(file).spec.data


def opened(data: Path, train: str, **fields: Any) -> Sets:
    return open_sets(spec_of(data, train, **fields), seed=1)


def sizes(sets: Sets) -> tuple[int, int | None, int | None]:
    def size(index: Any) -> int | None:
        return None if index is None else len(index)

    return len(sets.train), size(sets.validation), size(sets.test)


USE: Mapping[str, Any] = {"columns": {"split": "use"}}


@pytest.mark.parametrize(
    ("train", "fields", "expected"),
    [
        ("train.csv", {"validation": None}, (12, None, None)),
        ("train.csv", {"validation": "val.csv", "test": "test.csv"}, (12, 8, 4)),
        ("pictures", {"validation": "val.csv", "test": "pictures"}, (24, 8, 24)),
        ("all.csv", {"validation": None}, (24, None, None)),
        ("all.csv", {**USE}, (12, 8, 4)),
        ("all.csv", {**USE, "validation": None}, (12, None, 4)),
        ("all.csv", {**USE, "validation": "all.csv", "test": "all.csv"}, (12, 8, 4)),
        ("train.csv", {**USE, "validation": "val.csv", "test": "all.csv"}, (12, 8, 4)),
        ("train.csv", {**USE, "validation": None, "test": "pictures"}, (12, None, 24)),
    ],
)
def test_what_the_sets_are(train, fields, expected, data):
    assert sizes(opened(data, train, **fields)) == expected


def test_a_fraction_is_of_the_training_rows(data):
    sets = opened(data, "train.csv", **USE, validation={"fraction": 0.3})
    train, validation, test = sizes(sets)
    assert train + (validation or 0) == 12 and validation and test is None
    assert sets.train.whole == 12


def test_rows_that_stand_for_a_fraction_or_are_not_used_are_said(data):
    assert (
        "its 8 validation rows are the validation set" in opened(data, "all.csv", **USE).notes[-1]
    )
    notes = opened(data, "all.csv", **USE, validation=None).notes
    assert "8 validation rows are not used, since data.validation is null" in notes[-1]


@pytest.mark.parametrize(
    ("train", "fields", "what"),
    [
        ("all.csv", {**USE, "validation": "val.csv"}, "there are two validation sets"),
        ("all.csv", {**USE, "test": "test.csv"}, "there are two test sets"),
        ("train.csv", {**USE, "test": "train.csv"}, "no examples for test"),
        ("train.csv", {**USE, "validation": None, "test": "val.csv"}, "no examples for test"),
        ("pictures", {"columns": {"group": "patient"}}, "data.columns.group says"),
        ("pictures", {**USE, "root": "/"}, "data.columns.split and data.root say"),
    ],
)
def test_what_does_not_go_together(train, fields, what, data):
    with pytest.raises(DataError) as caught:
        opened(data, train, **fields)
    (problem,) = caught.value.problems
    assert what in problem.what and problem.action


@pytest.mark.parametrize("train", ["pictures", "all.csv"])
def test_training_data_that_are_the_test_data_too_are_a_warning(train, data):
    (data / "link").symlink_to(data / train)
    sets = opened(data, train, validation=None, test="link" if train == "pictures" else train)
    assert sizes(sets) == (24, None, 24)
    assert sets.notes[-1].startswith("warning: data.test is the training data too")


def test_a_fraction_keeps_groups_together(data):
    sets = opened(data, "all.csv", columns={"group": "patient"}, validation={"fraction": 0.4})
    assert sets.validation is not None
    assert not set(sets.train.groups) & set(sets.validation.groups)


def test_a_group_in_two_sets_is_refused(data):
    columns = {"group": "patient", "split": "use"}
    assert sizes(opened(data, "all.csv", columns=columns)) == (12, 8, 4)
    text = (data / "all.csv").read_text()
    (data / "all.csv").write_text(text.replace("00.png,x,p0,train", "00.png,x,p5,train"))
    with pytest.raises(DataError, match="1 group both in train and in test, got 'p5'"):
        opened(data, "all.csv", columns=columns)


def test_groups_that_cannot_be_compared_are_a_warning(data):
    sets = opened(data, "train.csv", columns={"group": "patient"}, validation="pictures")
    assert "groups of the validation data are not known" in sets.notes[-1]


def test_what_is_missing_is_counted_by_set(data):
    (data / "pictures/x/00.png").unlink()
    text = (data / "all.csv").read_text()
    (data / "all.csv").write_text(text.replace("11.png,y", "11.png,"))
    sets = opened(data, "all.csv", **USE, missing={"file": "drop"})
    assert sets.missing == {"train": {"file_dropped": 1}, "test": {"label_dropped": 1}}
    whole = opened(data, "all.csv", missing={"file": "drop"})
    assert whole.missing == {"train": {"file_dropped": 1, "label_dropped": 1}}
    assert sum("left out" in note for note in whole.notes) == 2


def test_a_missing_weight_is_that_of_the_training_rows_in_every_set(data):
    for part, weights in (("train", ("2", "4")), ("test", ("", "100"))):
        rows = (data / f"{part}.csv").read_text().splitlines()
        weighted = [f"{row},{weights[n % 2]}" for n, row in enumerate(rows[1:])]
        (data / f"{part}.csv").write_text("\n".join([f"{rows[0]},w", *weighted]))
    spec = spec_of(data, "train.csv", columns={"weight": "w"}, test="test.csv")
    sets = open_sets(spec, seed=1)
    assert sets.weight_fill == 3 and sets.test is not None
    assert sorted(sets.test.weights) == [3, 3, 100, 100]
    again = open_test(spec, None, sets.train.classes, sets.weight_fill)
    assert again is not None and again.digest == sets.test.digest


@pytest.mark.parametrize(
    ("train", "fields", "path", "count"),
    [
        ("train.csv", {}, None, None),
        ("train.csv", {}, "val.csv", 8),
        ("train.csv", {}, "pictures", 24),
        ("train.csv", {"test": "test.csv"}, None, 4),
        ("all.csv", {**USE}, None, 4),
        ("all.csv", {**USE}, "test.csv", 4),
        ("all.csv", {"columns": {"group": "nobody"}}, "test.csv", 4),
        ("pictures", {}, None, None),
    ],
)
def test_what_a_trained_model_is_measured_on(train, fields, path, count, data):
    place = str(data / path) if path else None
    index = open_test(spec_of(data, train, **fields), place, ("x", "y"))
    assert (None if index is None else len(index)) == count


def test_a_plan_counts_the_rows(data):
    spec_of(data, "all.csv", **USE)
    planned = make(load_spec(data / "job.yaml"))
    assert planned.counts == {"train": 12, "validation": 8, "test": 4}
    assert planned.plan is not None and planned.classes == ("x", "y")
    assert any("'patient'" in note for note in planned.notes)


@pytest.mark.parametrize(
    ("train", "root", "found"),
    [
        ("all.csv", None, []),
        ("none.csv", None, [("data.train", "does not exist")]),
        ("pictures/x/00.png", None, [("data.train", "is not a folder")]),
        ("all.csv", "none", [("data.root", "does not exist")]),
    ],
)
def test_paths_are_looked_at_before_training(train, root, found, data):
    fields = {"root": str(data / root)} if root else {}
    spec_of(data, train, **fields)
    problems = check_paths(load_spec(data / "job.yaml"))
    assert [(p.path, p.what) for p in problems if p.path.startswith("data.")] == found
