"""Batches out of packed shards: those of the folder that was packed, whatever happens to them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.data.augment import Augmenter
from harness.data.corrupt import CorruptRecorder
from harness.data.index import folder_index
from harness.data.lanes import lane_count
from harness.data.order import Order, canonical_rows
from harness.data.pack import pack
from harness.data.pack_plan import PackOptions
from harness.data.packed_examples import PackedExamples, packed_examples
from harness.data.packing import Packing
from harness.data.pipeline import Feed
from harness.data.split import split_validation
from harness.spec.models_augment import Augment

SIZE = 8
AUGMENT = Augment(flip="both", crop_area=(0.5, 1.0), brightness=0.2)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """61 pictures of three classes as a folder, and the folder packed into small shards."""
    root = tmp_path_factory.mktemp("pictures") / "folder"
    rng = np.random.default_rng(3)
    for at in range(61):
        picture = Image.fromarray(rng.integers(0, 256, (12, 9 + at % 5, 3), np.uint8))
        path = root / "abc"[at % 3 if at < 40 else 0] / f"{at:02}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        picture.save(path)
    index = folder_index(root)
    packing = Packing(
        index, canonical_rows(len(index)), root.parent / "packed", PackOptions(1500), None
    )
    pack(packing)
    done = packing.finish()
    assert done is not None
    assert len(done.shards) > 10
    return root, done.root


@pytest.fixture
def copy(pictures, tmp_path):
    return shutil.copytree(pictures[1], tmp_path / "copy")


def feed_of(index, *, batch=8, block=4, window=2, lanes=None, seed=5, augment=None, **more) -> Feed:
    order = Order(len(index), batch, lane_count(batch, lanes), seed, block, window)
    return Feed(index, order=order, augment=augment, **more)


def take(dataset, count: int) -> list[dict[str, np.ndarray]]:
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal(one, other) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


# Without shrinking: each try builds pipelines anew, and shrinking would take minutes.
@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.sampled_from([(3, 1), (8, 2), (8, 8), (16, 16), (24, 4)]),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(0, 2**63 - 1),
    st.data(),
)
def test_batches_of_two_epochs_are_those_of_the_folder(pictures, shape, block, window, seed, data):
    batch, lanes = shape
    asked = {"batch": batch, "lanes": lanes, "block": block, "window": window, "seed": seed}
    folder, packed = folder_index(pictures[0]), packed_examples(pictures[1])
    feed = feed_of(folder, **asked, augment=Augmenter(AUGMENT, seed))
    steps = 2 * feed.steps_per_epoch
    whole = take(feed.training(0, 0, SIZE), steps)
    ours = feed_of(packed, **asked, augment=Augmenter(AUGMENT, seed))
    assert_equal(take(ours.training(0, 0, SIZE), steps), whole)
    epoch, step = divmod(data.draw(st.integers(0, steps - 1)), feed.steps_per_epoch)
    late = take(ours.training(epoch, step, SIZE), 2)
    begin = epoch * feed.steps_per_epoch + step
    assert_equal(late[: steps - begin], whole[begin : begin + 2])
    replicas = data.draw(st.sampled_from([r for r in (2, 4) if lanes % r == 0] or [1]))
    parts = [take(ours.training(0, 0, SIZE, r, replicas), steps) for r in range(replicas)]
    joined = [
        {key: np.concatenate([part[at][key] for part in parts]) for key in whole[0]}
        for at in range(steps)
    ]
    assert_equal(joined, whole)


@pytest.mark.parametrize(("parts", "devices"), [(1, 2), (2, 1), (2, 2), (4, 2)])
def test_devices_and_parts_get_the_rows_of_the_folder(pictures, parts, devices):
    asked = {"parts": parts, "devices": devices}
    folder, packed = folder_index(pictures[0]), packed_examples(pictures[1])
    wanted = take(feed_of(folder, batch=16).training(0, 1, SIZE, **asked), 8)
    assert_equal(take(feed_of(packed, batch=16).training(0, 1, SIZE, **asked), 8), wanted)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_a_split_is_that_of_the_folder(pictures, fraction):
    folder, packed = folder_index(pictures[0]), packed_examples(pictures[1])
    digests = {packed.digest}
    for one, other in zip(
        split_validation(folder, fraction, 7), packed.split(fraction, 7), strict=True
    ):
        assert one.counts() == other.counts()
        assert len(one) == len(other)
        digests.add(other.digest)
        steps = feed_of(one).steps_per_epoch
        assert_equal(
            take(feed_of(other).training(0, 0, SIZE), steps + 1),
            take(feed_of(one).training(0, 0, SIZE), steps + 1),
        )
        passed = evaluated(Feed(other), 7)
        assert sorted(passed) == sorted(evaluated(Feed(one), 7))
    assert len(digests) == 3


def evaluated(feed: Feed, batch: int, replicas: int = 1) -> list[int]:
    """Examples of a pass, as numbers among the sorted names."""
    found = []
    for replica in range(replicas):
        for one in take(feed.evaluation(batch, SIZE, replica, replicas), 1000):
            assert one["image"].shape == (batch // replicas, SIZE, SIZE, 3)
            found += one["index"][one["mask"] == 1].tolist()
    return found


@pytest.mark.parametrize(("batch", "replicas"), [(1, 1), (7, 1), (61, 1), (64, 1), (16, 4)])
def test_a_pass_has_each_example_once(pictures, batch, replicas):
    feed = Feed(packed_examples(pictures[1]))
    assert sorted(evaluated(feed, batch, replicas)) == list(range(61))


def damage(root) -> dict[str, str]:
    """A changed byte in one record, a shard cut inside a record, a shard that is gone."""
    examples: PackedExamples = packed_examples(root)
    first, cut, gone = (examples.packed.shards[n] for n in (0, 3, 6))
    raw = bytearray((root / first.file).read_bytes())
    raw[len(raw) // 2] ^= 1
    (root / first.file).write_bytes(raw)
    (root / cut.file).write_bytes((root / cut.file).read_bytes()[:-30])
    (root / gone.file).unlink()
    return {first.file: "wrong checksum", cut.file: "ends before it", gone.file: "is missing"}


def test_damage_keeps_its_place_and_is_named(pictures, copy):
    examples = packed_examples(copy)
    healthy = take(feed_of(packed_examples(pictures[1])).training(0, 0, SIZE), 16)
    said = damage(copy)
    recorder = CorruptRecorder(61, "skip", 1.0)
    got = take(feed_of(examples, recorder=recorder).training(0, 0, SIZE), 16)
    bad = set()
    for a, b in zip(got, healthy, strict=True):
        np.testing.assert_array_equal(a["index"], b["index"])
        lost = (a["mask"] == 0) & (b["mask"] == 1)
        bad |= set(a["index"][lost])
        whole = a["mask"] == 1
        np.testing.assert_array_equal(a["image"][whole], b["image"][whole])
        assert not a["image"][lost].any()
    assert len(bad) == 2 + examples.packed.shards[6].examples
    assert len(recorder) == len(bad)
    for file, words in said.items():
        assert any(file in name and words in reason for name, reason in recorder.reasons.items())
    passed = CorruptRecorder(61, "skip", 1.0)
    assert set(range(61)) - set(evaluated(Feed(examples, recorder=passed), 8)) == bad
    assert passed.reasons == recorder.reasons


def test_a_picture_that_was_packed_broken_is_named_as_in_its_folder(pictures, tmp_path):
    root = shutil.copytree(pictures[0], tmp_path / "folder")
    (root / "a" / "00.png").write_bytes(b"no picture")
    (root / "b" / "01.png").write_bytes(b"")
    index = folder_index(root)
    packing = Packing(index, canonical_rows(61), tmp_path / "packed", PackOptions(1500), None)
    pack(packing)
    assert packing.finish() is not None
    reasons = []
    for one in (index, packed_examples(tmp_path / "packed")):
        recorder = CorruptRecorder(61, "skip", 1.0)
        assert len(evaluated(Feed(one, recorder=recorder), 8)) == 59
        reasons.append(recorder.reasons)
    assert reasons[0] == reasons[1]
    assert set(reasons[0]) == {"a/00.png", "b/01.png"}


def test_classes_of_a_test_set_are_those_of_training(pictures):
    known = ("0", "a", "b", "c")
    examples = packed_examples(pictures[1], known)
    assert examples.counts() == {"0": 0, "a": 35, "b": 13, "c": 13}
    assert "no examples of 1 of 4 classes" in examples.notes[0]
    labels = folder_index(pictures[0]).labels
    for batch in take(Feed(examples).evaluation(8, SIZE), 100):
        np.testing.assert_array_equal(batch["label"], [labels[i] + 1 for i in batch["index"]])


def test_a_file_of_entries_that_shrinks_is_no_endless_loop(copy):
    examples = packed_examples(copy)
    (copy / "offsets.bin").write_bytes(b"")
    with pytest.raises(tf.errors.OpError, match=r"offsets\.bin"):
        take(feed_of(examples).training(0, 0, SIZE), 1)
