"""Targets of packed sets: looked up, counted, spread over parts, and what is broken in an index."""

from __future__ import annotations

import json
import math
import shutil
from array import array
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import packed_entries, packed_targets
from harness.data.index import ExampleIndex
from harness.data.manifest import manifest_index
from harness.data.manifest_columns import ManifestOptions
from harness.data.media import TEXT
from harness.data.nearby import Nearby
from harness.data.order import canonical_rows
from harness.data.pack import pack
from harness.data.pack_plan import PackOptions
from harness.data.packed import PackedIndex, open_packed
from harness.data.packed_examples import packed_examples
from harness.data.packed_facts import TARGETS, LabelFacts
from harness.data.packed_targets import TargetRows, Targets, chunks, spread
from harness.data.packing import Packing
from harness.data.regression import Numbers, Scaling, Values, exact_parts, scaling_of
from harness.data.selection import Selection
from harness.data.sets import open_sets, open_test
from harness.data.unlabelled import CLASS, unlabelled_index
from harness.errors import DataError
from harness.spec.models_data import DataSpec

N = 200
NUMBERS = ManifestOptions(path=None, text="t", labels=("x", "y"), numeric=True)
SIGNS = ManifestOptions(path=None, text="t", labels=("a", "b", "c"), uncertain=(-1, "ignore"))


def packed(folder: Path, options: ManifestOptions, rows: list[str]) -> PackedIndex:
    """Texts of a manifest, packed."""
    folder.mkdir(exist_ok=True)
    (folder / "all.csv").write_text("\n".join([",".join(["t", *options.labels]), *rows]))
    index = manifest_index(folder / "all.csv", options)
    asked = PackOptions(300, medium="text")
    packing = Packing(index, canonical_rows(len(index)), folder / "set", asked, None)
    pack(packing)
    done = packing.finish()
    assert done is not None and len(done.shards) > 2
    return done


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> PackedIndex:
    rows = [f"text {n},{1e9 + n / 7!r},{'' if n % 3 else repr(math.sqrt(n))}" for n in range(N)]
    return packed(tmp_path_factory.mktemp("numbers"), NUMBERS, rows)


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> PackedIndex:
    cells = ("1", "0", "-1", "")
    rows = [f"text {n},1,{cells[n % 4]},{cells[n // 4 % 4]}" for n in range(N)]
    return packed(tmp_path_factory.mktemp("signs"), SIGNS, rows)


def entries(index: PackedIndex) -> np.ndarray:
    return np.array(index.entries(TARGETS, 0, len(index)))


PIECE = st.lists(st.floats(-1e30, 1e30), max_size=6)


@given(
    st.lists(st.tuples(PIECE, PIECE), max_size=6),
    st.randoms(use_true_random=False),
)
def test_numbers_in_pieces_are_those_at_once(pieces: list[Any], random: Any) -> None:
    for at, found in enumerate(Numbers.of_pieces(lambda: iter(pieces), 2)):
        whole = [value for piece in pieces for value in piece[at]]
        random.shuffle(whole)
        assert found == Numbers.of([*whole, math.nan])
        if whole:
            mean = math.fsum(whole) / len(whole)
            squares = math.fsum((value - mean) ** 2 for value in whole)
            assert (found.mean, found.std) == (mean, math.sqrt(squares / len(whole)))
            assert (found.least, found.most) == (min(whole), max(whole))


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, max_value=1e300, min_value=-1e300))
)
def test_exact_parts_lose_nothing(values: list[float]) -> None:
    parts = exact_parts(values)
    assert sum(map(Fraction, parts)) == sum(map(Fraction, values))
    assert len(parts) <= 45


def test_rows_are_looked_up_in_pieces_of_which_few_are_kept(
    signs: PackedIndex, numbers: PackedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_entries, "_PIECE_BYTES", 40)
    monkeypatch.setattr(packed_entries, "_HELD_PIECES", 3)
    scaling = Scaling((1e9, 5.0), (3.0, 2.0))
    draw = np.random.default_rng(1)
    for index, targets in (
        (signs, Targets((2, 0, 1), "one")),
        (numbers, Targets((1, 0), scaling=Scaling(scaling.mean[::-1], scaling.std[::-1]))),
    ):
        rows, raw = TargetRows(index, targets), entries(index)
        for _ in range(20):
            positions = draw.integers(0, N, 17)
            found, usable = rows.at(positions)
            wanted = targets.taken(raw[positions])
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, wanted)
            assert usable.tolist() == [True] * 17
            assert len(rows._entries._held) <= 3
    found = Targets((0, 1), scaling=scaling).taken(entries(numbers))
    flat = array("d", entries(numbers).reshape(-1).tolist())
    np.testing.assert_array_equal(found, Values(flat, 2, scaling).standardised())


def test_a_copy_on_this_node_is_read_first(signs: PackedIndex, tmp_path: Path) -> None:
    shutil.copytree(signs.root, tmp_path / "set")
    shutil.copytree(signs.root, tmp_path / "near")
    index, said = open_packed(tmp_path / "set"), list[tuple[str, str]]()
    index.near = Nearby(tmp_path / "near", lambda *one: said.append(one))
    (tmp_path / "set" / TARGETS).unlink()
    targets, everywhere = Targets((0, 1, 2), "ignore"), np.arange(N)
    found, _ = TargetRows(index, targets).at(everywhere)
    np.testing.assert_array_equal(found, targets.taken(entries(signs)))
    # Where the copy is cut and the set has none, it is no example of zeros.
    (tmp_path / "near" / TARGETS).write_bytes(b"")
    with pytest.raises(DataError, match=r"targets\.bin cannot be read"):
        TargetRows(index, targets).at(everywhere)
    assert said == [(TARGETS, "was cut")]


def test_what_is_taken_as_unknown_is_usable_by_nobody() -> None:
    states = np.array([[-1, -2], [-1, 0], [1, -2]], np.int8)
    for as_, usable in (("ignore", [False, True, True]), ("zero", [True] * 3)):
        targets = Targets((0, 1), as_)  # type: ignore[arg-type]
        assert targets.usable(targets.taken(states)).tolist() == usable
    assert Targets((0, 1), "one").known(states).tolist() == [3, 0]
    assert Targets((0, 1), "ignore").known(states).tolist() == [1, 0]


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_a_part_has_the_spread_and_the_scaling_of_its_own(
    numbers: PackedIndex, fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_targets, "_CHUNK_BYTES", 16 * 24)
    whole = packed_examples(numbers.root)
    assert [whole.packed.spread[at] for at in (0, 1)] == whole.each()
    raw = entries(numbers)
    for part in whole.split(fraction, 3):
        mine = part.selection.positions(np.arange(len(part)))
        assert 0 < len(mine) < N
        pieces = list(chunks(numbers, part.selection))
        assert max(map(len, pieces)) <= 24 and len(pieces) > 4
        np.testing.assert_array_equal(np.concatenate(pieces), raw[mine])
        values = Values(array("d", raw[mine].reshape(-1).tolist()), 2)
        assert part.each() == values.each()
        assert scaling_of(part, ("x", "y")) == scaling_of(values, ("x", "y"))
        assert part.counts() == dict(zip("xy", values.known(), strict=True))
        assert spread(numbers, part.selection, (1, 0)) == values.each()[::-1]


def test_labels_of_a_part_are_counted(signs: PackedIndex) -> None:
    whole = packed_examples(signs.root)
    for part in (whole, *whole.split(0.3, 5)):
        mine = entries(signs)[part.selection.positions(np.arange(len(part)))]
        assert part.counts() == dict(zip("abc", (mine == 1).sum(0).tolist(), strict=True))
    facts = whole.packed.labels
    assert facts is not None and LabelFacts.of_json(facts.to_json()) == facts
    assert facts.uncertain == (entries(signs) == -1).sum() > 0


@pytest.mark.parametrize(
    ("which", "change", "said"),
    [
        ("signs", {"targets": "pictures"}, "targets: 'pictures'"),
        ("signs", {"uncertain": {"value": -1, "as": "two"}}, "KeyError: 'two'"),
        ("signs", {"states": [{}]}, "KeyError"),
        ("numbers", {"spread": [{"least": 1}]}, "TypeError"),
        ("numbers", {"counts": [3]}, "examples by class"),
    ],
)
def test_an_index_that_is_not_whole_is_named(
    which: str, change: dict[str, Any], said: str, request, tmp_path: Path
) -> None:
    index: PackedIndex = request.getfixturevalue(which)
    facts = json.loads((index.root / "index.json").read_text()) | change
    (tmp_path / "index.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"index\.json is broken") as error:
        open_packed(tmp_path)
    assert said in str(error.value)


def test_a_manifest_beside_a_set_is_read_for_its_targets(numbers: PackedIndex, tmp_path) -> None:
    (tmp_path / "test.csv").write_text("t,y\na,1\nb,2")
    columns = {"path": None, "text": "t", "label": "y"}
    fields = {"train": str(numbers.root), "test": str(tmp_path / "test.csv"), "columns": columns}
    with pytest.raises(DataError, match="is a packed set of other targets"):
        open_sets(DataSpec.model_validate(fields), 1, medium="text", learned="numbers")
    # Left to itself it is those of the set, in whatever order they stand in the manifest.
    for labels in ({}, {"labels": ["x", "y"]}, {"labels": ["y", "x"]}):
        (tmp_path / "test.csv").write_text("t,y,x\na,1,2\nb,2,3")
        data = DataSpec.model_validate(fields | {"columns": {"path": None, "text": "t", **labels}})
        sets = open_sets(data, 1, medium="text", learned="numbers")
        test = open_test(data, None, sets.train.classes, medium="text", learned="numbers")
        names = tuple(labels.get("labels", ("x", "y")))
        for one in (sets.test, test):
            assert isinstance(one, ExampleIndex) and one.values is not None
            assert sets.train.classes == one.classes == names
            found = one.values.subset([one.texts.index(b"a")]).numbers.tolist()
            assert dict(zip(names, found, strict=True)) == {"x": 2, "y": 1}
    with pytest.raises(DataError, match="is read for other targets than those of the training"):
        open_test(data, None, ("x", "y"), medium="text", learned="numbers")


def test_what_a_set_has_nothing_of_is_said(numbers: PackedIndex, signs, tmp_path: Path) -> None:
    rows = [f"text {n},{n},NA" for n in range(N)]
    lacking = packed(tmp_path / "few", NUMBERS, rows)
    examples = packed_examples(lacking.root, ("x", "y"), NUMBERS)
    assert "has no value of 1 of 2 targets: 'y'" in examples.notes[0]
    with pytest.raises(DataError, match="nothing to learn of the target 'y'"):
        scaling_of(examples, examples.classes)
    none = packed(tmp_path / "none", SIGNS, [f"text {n},1,0," for n in range(N)])
    assert "no examples of 2 of 3 labels: 'b', 'c'" in packed_examples(none.root, "abc").notes[0]
    assert Selection(3).is_all and not packed_examples(signs.root).notes


@pytest.mark.parametrize("which", ["numbers", "signs"])
def test_as_a_target_without_labels_all_examples_count(
    which: str, request: pytest.FixtureRequest
) -> None:
    """Whatever is known of them."""
    from harness.data.content import content_of
    from harness.data.pipeline import Feed

    index: PackedIndex = request.getfixturevalue(which)
    options = ManifestOptions(path=None, text="t", medium=TEXT)
    found = unlabelled_index(str(index.root), options)
    assert found.classes == (CLASS,)
    batches = [*Feed(found, content=content_of("text")).evaluation(8, None).as_numpy_iterator()]
    assert sum(float(batch["mask"].sum()) for batch in batches) == N
    assert {int(label) for batch in batches for label in batch["label"]} == {0}
