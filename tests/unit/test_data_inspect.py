"""What is said of a data set: counts, spreads, samples, and names only where they may be said."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.inspect import (
    Inspection,
    Pictures,
    Spread,
    describe,
    open_data,
    sample_rows,
)
from harness.worker.counted import Counted
from harness.worker.inspect_backbone import is_backbone


@pytest.mark.parametrize(
    ("values", "spread"),
    [
        ([], None),
        ([3], Spread(3, 3, 3)),
        ([9, 1], Spread(1, 1, 9)),
        ([5, 1, 4], Spread(1, 4, 5)),
        ([4, 3, 2, 1], Spread(1, 2, 4)),
    ],
)
def test_spread(values, spread):
    assert Spread.of(values) == spread


@given(st.integers(0, 300), st.integers(0, 400), st.integers(0, 2**40))
def test_a_sample_is_of_different_rows_and_repeats(examples, wanted, seed):
    rows = sample_rows(examples, wanted, seed)
    assert len(rows) == len(set(rows)) == min(wanted, examples)
    assert all(0 <= row < examples for row in rows)
    assert rows == sample_rows(examples, wanted, seed)
    assert list(sample_rows(examples, None, seed)) == list(range(examples))


def test_samples_stay_and_differ_by_seed():
    assert sample_rows(1000, 5, 1) == sample_rows(1000, 5, 1) != sample_rows(1000, 5, 2)
    # Of a very large set nothing is listed.
    assert len(sample_rows(10**12, 4, 3)) == 4


def test_a_folder_is_described(tmp_path, write_pictures):
    root = write_pictures(tmp_path / "data", ["a", "b"], 3, side=8)
    (root / "a" / "3.jpeg").write_bytes(b"x" * 700)
    (root / "a" / "notes.txt").write_text("")
    found = describe(open_data(root), str(root))
    assert (found.examples, found.counts, found.imbalance) == (7, {"a": 4, "b": 3}, 4 / 3)
    sizes = [path.stat().st_size for path in root.rglob("*.*g")]
    assert found.total_bytes == sum(sizes)
    assert found.file_bytes == Spread.of(sizes)
    assert found.ignored == {"txt": 1}
    assert found.digest == open_data(root).digest
    assert found.to_json()["pictures"] is None


def test_a_manifest_is_described(tmp_path, write_pictures):
    write_pictures(tmp_path, ["a", "b"], 2, side=8)
    rows = ["a/000.png,x", "b/000.png,x", "a/001.png,y", "b/001.png,"]
    manifest = tmp_path / "rows.csv"
    manifest.write_text("\n".join(["file,label", *rows]))
    found = describe(open_data(manifest), str(manifest))
    assert (found.counts, found.missing) == ({"x": 2, "y": 1}, {"label_dropped": 1})
    assert found.file_bytes is not None
    assert any("1 row without label" in note for note in found.notes)


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
def test_a_saved_model_is_a_backbone_and_no_data(tmp_path, name):
    (tmp_path / "variables").mkdir()
    assert not is_backbone(str(tmp_path))
    (tmp_path / name).touch()
    assert is_backbone(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("keras:VGG16", True),
        ("keras:Misspelt", True),  # which is told as such, and not as data that do not exist
        ("hub:/x", True),
        ("https://tfhub.dev/x/1", True),
        ("data/train", False),
        ("job.yaml", False),
    ],
)
def test_handles_are_known_by_their_form(text, wanted):
    assert is_backbone(text) is wanted


PICTURES = Pictures(5, None, None, {"PNG": 2}, {"a/1.png": "empty", "a/2": "missing", "b": "empty"})


def test_reasons_are_counted():
    assert list(PICTURES.reasons().items()) == [("empty", 2), ("missing", 1)]
    assert not PICTURES.all_broken
    assert Pictures(1, None, None, {}, {"a": "empty"}).all_broken
    assert not Pictures(0, None, None, {}, {}).all_broken


@pytest.mark.parametrize("sensitive", [False, True])
def test_json_names_files_unless_they_are_sensitive(sensitive):
    found = Inspection(
        "there", {"a": 2, "b": 0}, None, 0, {}, {}, (), "digest", PICTURES, sensitive=sensitive
    )
    facts = json.loads(json.dumps(found.to_json()))
    assert facts["imbalance"] is None  # a class has no example
    assert facts["pictures"]["reasons"] == {"empty": 2, "missing": 1}
    assert facts["pictures"]["broken"] == (3 if sensitive else PICTURES.broken)
    assert ("a/1.png" in json.dumps(facts)) != sensitive


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_count_is_one_line_on_a_terminal_and_silent_elsewhere():
    for out, wanted in ((Terminal(), True), (io.StringIO(), False)):
        with Counted("looked at", "pictures", 2000, out) as counted:
            counted.add(1500)
            counted.add(500)
        assert ("looked at 1,500 of 2,000 pictures, " in out.getvalue()) == wanted
        assert "\n" not in out.getvalue()
        if wanted:
            assert out.getvalue().endswith("\r\x1b[K"), "the line is taken away at the end"
