"""Several labels at once and numbers, packed: what is in a set, and the batches out of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from harness.cli.main import main
from harness.data.index import ExampleIndex
from harness.data.lanes import lane_count
from harness.data.order import Order
from harness.data.packed import LABELS, open_packed
from harness.data.packed_examples import PackedExamples
from harness.data.packed_facts import TARGETS
from harness.data.pipeline import Feed
from harness.spec import load_spec
from harness.spec.models_data import Uncertain
from harness.worker.datasets import Datasets, open_datasets
from tests.local.targets_helpers import (
    KINDS,
    NAMES,
    changes,
    from_packed,
    pack_both,
    write_data,
)
from tests.local.training_helpers import write_spec

TAKEN = ("ignore", "zero", "one")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), write_pictures)


@pytest.fixture(scope="module")
def packed(
    data: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    return pack_both(tmp_path_factory.mktemp("packed"), tiny_backbone, data)


def opened(folder: Path, way: str, **update: Any) -> Datasets:
    spec = load_spec(str(folder / way / "spec.yaml")).spec
    spec = spec.model_copy(update={"data": spec.data.model_copy(update=update)})
    return open_datasets(spec, lambda note: None)


def manifest_of(folder: Path, **update: Any) -> ExampleIndex:
    index = opened(folder, "manifest", validation=None, **update).train.index
    assert isinstance(index, ExampleIndex)
    return index


def test_a_set_holds_labels_in_their_states(packed: dict[str, Path]) -> None:
    index, held = manifest_of(packed["labels"]), open_packed(packed["labels"] / "train")
    assert held.learned == "labels" and held.classes == ("warm", "cold")
    assert LABELS not in held.kinds
    facts = json.loads((held.root / "index.json").read_text())
    assert facts["targets"] == "labels" and facts["uncertain"] == {"value": -1, "as": "ignore"}
    assert held.counts == tuple(index.counts().values())
    assert held.missing == {"label_dropped": index.missing["label_dropped"]} == {"label_dropped": 1}
    number = {"1": 1, "0": 0, "-": -1, "?": -2}
    wanted = {
        name: [number[sign] for sign in states]
        for name, states in zip(index.names, index.states, strict=True)
    }
    assert {state for states in wanted.values() for state in states} == {1, 0, -1, -2}
    entries = held.entries(TARGETS, 0, len(held))
    found = {}
    for entry, feature in zip(entries.tolist(), features_of(held.root), strict=True):
        labels = list(feature["image/class/labels"].int64_list.value)
        assert labels == entry
        present = [name.decode() for name in feature["image/class/text"].bytes_list.value]
        assert present == [n for n, state in zip(held.classes, entry, strict=True) if state == 1]
        assert "image/class/label" not in feature
        found[feature["image/filename"].bytes_list.value[0].decode()] = labels
    assert found == wanted
    for at, states in enumerate(facts["states"]):
        column = [one[at] for one in wanted.values()]
        names = ("present", "absent", "uncertain", "missing")
        assert [states[name] for name in names] == [column.count(n) for n in (1, 0, -1, -2)]


def test_a_set_holds_numbers_in_all_their_digits(packed: dict[str, Path]) -> None:
    index, held = manifest_of(packed["numbers"]), open_packed(packed["numbers"] / "train")
    assert held.learned == "numbers" and held.classes == ("light", "odd")
    assert index.values is not None and list(held.spread) == index.values.each()
    names = [
        feature["image/filename"].bytes_list.value[0].decode() for feature in features_of(held.root)
    ]
    rows = [index.names.index(name) for name in names]
    wanted = np.asarray(index.values.subset(rows).numbers).reshape(-1, 2)
    np.testing.assert_array_equal(held.entries(TARGETS, 0, len(held)), wanted)
    assert len(np.unique(wanted[:, 0])) > len(np.unique(wanted[:, 0].astype(np.float32)))
    given = [feature["image/targets"].float_list.value for feature in features_of(held.root)]
    np.testing.assert_array_equal(np.array(given, np.float32), wanted.astype(np.float32))


def features_of(root: Path) -> list[Any]:
    """The records of a set, as any TensorFlow program reads them."""
    files = sorted(map(str, root.glob("data-*")))
    return [
        tf.train.Example.FromString(record).features.feature
        for record in tf.data.TFRecordDataset(files).as_numpy_iterator()
    ]


def feed_of(index: Any) -> Feed:
    return Feed(index, order=Order(len(index), 8, lane_count(8, None), 5, 4, 2))


def batches(feed: Feed, steps: int, start: int = 0, replica: int = 0, replicas: int = 1) -> Any:
    epoch, step = divmod(start, feed.steps_per_epoch)
    rows = feed.training(epoch, step, 8, replica, replicas)
    return list(rows.take(steps).as_numpy_iterator())


def assert_equal(wanted: Any, found: Any) -> None:
    assert len(wanted) == len(found) > 0
    for this, that in zip(wanted, found, strict=True):
        assert this.keys() == that.keys() and this["label"].dtype == np.float32
        for name in this:
            np.testing.assert_array_equal(this[name], that[name], err_msg=name)


def assert_same_batches(one: Any, other: Any, *ranks: int) -> None:
    """Over two epochs, and so of each of so many ranks; from a late step on too."""
    feeds = feed_of(one), feed_of(other)
    steps = 2 * feeds[0].steps_per_epoch
    wanted = batches(feeds[0], steps)
    assert_equal(wanted, batches(feeds[1], steps))
    for replicas in ranks:
        assert_equal(wanted[3:], batches(feeds[1], steps - 3, 3))
        parts = [batches(feeds[1], steps, 0, replica, replicas) for replica in range(replicas)]
        joined = [
            {name: np.concatenate([part[at][name] for part in parts]) for name in batch}
            for at, batch in enumerate(wanted)
        ]
        assert_equal(wanted, joined)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grouped", [True, False])
def test_batches_and_splits_are_those_of_the_manifest(
    kind: str, grouped: bool, data: Path, packed: dict[str, Path], tiny_backbone: Path, tmp_path
) -> None:
    folder = packed[kind]
    if not grouped:
        columns = {"data.columns": {"labels": NAMES[kind], "split": "use"}}
        spec = write_spec(tmp_path, tiny_backbone, data, **changes(kind, data, **columns))
        assert main(["pack", str(spec), str(tmp_path / "train")]) == 0
        for way, more in (
            ("manifest", changes(kind, data, **columns)),
            ("packed", from_packed(kind, data, tmp_path, **{"data.test": None})),
        ):
            (tmp_path / way).mkdir()
            write_spec(tmp_path / way, tiny_backbone, data, **more)
        folder = tmp_path
    one, other = opened(folder, "manifest"), opened(folder, "packed")
    assert one.classes == other.classes and one.scaling == other.scaling
    assert (one.scaling is None) == (kind == "labels")
    for split, ranks in (("train", (2, 4)), ("validation", ())):
        this, that = getattr(one, split).index, getattr(other, split).index
        assert isinstance(that, PackedExamples)
        assert len(this) == len(that) and this.counts() == that.counts()
        assert_same_batches(this, that, *(ranks if grouped else ()))
    assert other.validation is not None and not other.validation.index.notes


@pytest.mark.parametrize("as_", TAKEN)
def test_what_is_uncertain_is_said_by_who_trains(as_: Any, packed: dict[str, Path]) -> None:
    folder, uncertain = packed["labels"], Uncertain(value=-1, as_=as_)
    one, other = (
        opened(folder, way, uncertain=uncertain, validation=None).train.index
        for way in ("manifest", "packed")
    )
    assert isinstance(one, ExampleIndex) and isinstance(other, PackedExamples)
    assert other.packed.labels is not None and other.packed.labels.uncertain > 5
    if as_ == "ignore":
        assert one.counts() == other.counts() and not other.notes
        return
    # The row of which nothing was known when it was packed would be another example.
    assert len(one) == len(other)
    assert_same_batches(one, other)
    assert any("was packed with data.uncertain.as: ignore" in note for note in other.notes)
    ignored = opened(folder, "packed", validation=None).train.index
    more = [one.counts()[name] - ignored.counts()[name] for name in NAMES["labels"]]
    assert all(more) if as_ == "one" else not any(more)


def test_examples_of_which_nothing_is_known_keep_their_places(
    data: Path, packed: dict[str, Path], tiny_backbone: Path, tmp_path: Path
) -> None:
    rows = (data / "all.csv").read_text().splitlines()
    rows[2] = ",".join([rows[2].split(",")[0], "-1", "-1", *rows[2].split(",")[3:]])
    (tmp_path / "all.csv").write_text("\n".join(rows))
    more = {"data.uncertain": {"value": -1, "as": "zero"}, "data.root": str(data)}
    places = {"data.train": str(tmp_path / "all.csv")}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes("labels", data, **more, **places))
    assert main(["pack", str(spec), str(tmp_path / "train")]) == 0
    found = opened(packed["labels"], "packed", train=str(tmp_path / "train"), validation=None)
    index = found.train.index
    assert len(index) == len(manifest_of(packed["labels"])) and index.counts()["cold"] > 0
    assert any("1 examples are not used, as no label" in note for note in index.notes)
    feed = feed_of(index)
    seen = batches(feed, feed.steps_per_epoch)
    unknown = [one for batch in seen for one in batch["mask"][(batch["label"] < 0).all(1)]]
    assert unknown and not any(unknown)
    taken = Uncertain(value=-1, as_="one")
    whole = opened(
        packed["labels"], "packed", train=str(tmp_path / "train"), uncertain=taken, validation=None
    )
    assert not any("not used" in note for note in whole.train.index.notes)


def test_columns_may_stand_in_another_order(packed: dict[str, Path]) -> None:
    for kind, splits in (("labels", ("train", "test")), ("numbers", ("train",))):
        spec = load_spec(str(packed[kind] / "packed" / "spec.yaml")).spec
        columns = spec.data.columns.model_copy(update={"labels": tuple(NAMES[kind][::-1])})
        turned, plain = (
            opened(packed[kind], "packed", columns=columns),
            opened(packed[kind], "packed"),
        )
        assert turned.classes == plain.classes[::-1]
        for split in splits:
            one, other = (getattr(sets, split).index for sets in (turned, plain))
            assert one.counts() == other.counts()
            for this, that in zip(
                batches(feed_of(one), 3), batches(feed_of(other), 3), strict=True
            ):
                np.testing.assert_array_equal(this["label"], that["label"][:, ::-1])


def test_a_manifest_alone_is_packed_by_its_classes_only(data: Path, tmp_path: Path, capsys) -> None:
    assert main(["pack", str(data / "all.csv"), str(tmp_path / "out")]) == 4
    said = capsys.readouterr().err
    assert "has no column 'label'" in said and "'warm', 'cold'" in said
    assert "`harness pack SPEC DST`" in said
    assert not (tmp_path / "out").exists()


def test_targets_that_are_lost_are_made_again_and_damaged_ones_are_named(
    data: Path, packed: dict[str, Path], tmp_path: Path, capsys
) -> None:
    spec, folder = packed["numbers"] / "manifest" / "spec.yaml", tmp_path / "out"
    assert main(["pack", str(spec), str(folder)]) == 0
    right = (folder / TARGETS).read_bytes()
    (folder / TARGETS).write_bytes(right[:-1])
    capsys.readouterr()
    assert main(["inspect", str(folder), "--sample", "0"]) == 4
    assert f"{folder / TARGETS} is not as it was packed" in capsys.readouterr().err
    assert main(["pack", str(spec), str(folder), "--verify"]) == 0
    assert (folder / TARGETS).read_bytes() == right
    (folder / TARGETS).write_bytes(bytes(len(right)))
    assert main(["pack", str(spec), str(folder), "--verify"]) == 4
    assert f"{folder / TARGETS} is not what was packed" in capsys.readouterr().err
    assert open_packed(packed["numbers"] / "train").digest == open_packed(folder).digest
    table = (data / "all.csv").read_text().replace(repr(1e9 + 1 / 7), repr(1e9 + 1 / 7 + 1e-6))
    (tmp_path / "all.csv").write_text(table)
    text = spec.read_text().replace(str(data / "all.csv"), str(tmp_path / "all.csv"))
    # A digit that float32 does not hold makes another digest.
    (tmp_path / "spec.yaml").write_text(text.replace("data:", f"data:\n  root: {data}", 1))
    assert main(["pack", str(tmp_path / "spec.yaml"), str(tmp_path / "more")]) == 0
    before, after = open_packed(folder), open_packed(tmp_path / "more")
    assert before.shards[0].sha256 == after.shards[0].sha256
    assert before.digest != after.digest
