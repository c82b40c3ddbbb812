"""The pipelines on real image files: order, masks, replicas, corrupt files, evaluation."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from harness.data.corrupt import CorruptRecorder
from harness.data.index import folder_index
from harness.data.lanes import lane_count
from harness.errors import DataError, EnvironmentNotAble
from harness.plugins import registry
from harness.spec.models_augment import Augment, RandAugment

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from harness.data.augment import Augmenter  # noqa: E402
from harness.data.decode import prepare_image  # noqa: E402
from harness.data.order import Order, canonical_rows  # noqa: E402
from harness.data.pipeline import Feed  # noqa: E402
from harness.data.sources import plugin_source  # noqa: E402

SIZE = 16
AUGMENT = Augment(
    flip="both",
    rotate_deg=20.0,
    crop_area=(0.5, 1.0),
    zoom=0.2,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.1,
    randaugment=RandAugment(ops=1),
    cutout=0.2,
)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """45 pictures of three classes, of several kinds and shapes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for at in range(45):
        kind = ("jpg", "png", "bmp")[at % 3]
        small = rng.integers(0, 256, (4, 5, 3), np.uint8)
        picture = Image.fromarray(small).resize((30 + at, 40), Image.Resampling.BICUBIC)
        path = root / "abc"[at % 3 if at < 30 else 0] / f"{at:02}.{kind}"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    return root


@pytest.fixture
def copy(photos, tmp_path):
    return shutil.copytree(photos, tmp_path / "copy")


def feed_of(root, *, batch=8, augment=None, seed=5, **more) -> Feed:
    index = folder_index(root)
    order = Order(len(index), batch, lane_count(batch), seed, 4, 2)
    augmenter = Augmenter(augment, seed) if augment else None
    return Feed(index, order=order, augment=augmenter, **more)


def take(dataset, count: int) -> list[dict[str, np.ndarray]]:
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal(one, other) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b) == {"image", "label", "mask", "weight", "index"}
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_batches_are_as_promised(photos):
    feed = feed_of(photos)
    dataset = feed.training(0, 0, SIZE)
    spec = {name: (tuple(s.shape), s.dtype.name) for name, s in dataset.element_spec.items()}
    assert spec == {
        "image": ((8, SIZE, SIZE, 3), "uint8"),
        "label": ((8,), "int32"),
        "mask": ((8,), "float32"),
        "weight": ((8,), "float32"),
        "index": ((8,), "int64"),
    }
    assert feed.steps_per_epoch == 6
    batches = take(dataset, 12)
    for epoch in range(2):
        part = batches[6 * epoch : 6 * epoch + 6]
        rows = np.concatenate([b["index"][b["mask"] == 1] for b in part])
        assert sorted(rows) == list(range(45))
        canonical, mask = feed.order.batch(epoch, tf.range(6, dtype=tf.int64))
        wanted = canonical_rows(45)[canonical]
        np.testing.assert_array_equal([b["index"] for b in part], wanted)
        np.testing.assert_array_equal([b["mask"] for b in part], mask)
    index = feed.index
    for batch in batches[:2]:
        np.testing.assert_array_equal(batch["label"], [index.labels[i] for i in batch["index"]])
        for image, row in zip(batch["image"], batch["index"], strict=True):
            contents = tf.constant((index.root / index.names[row]).read_bytes())
            np.testing.assert_array_equal(image, prepare_image(contents, SIZE))


@pytest.mark.parametrize("augment", [None, AUGMENT], ids=["plain", "augmented"])
def test_a_late_start_gives_the_tail_and_threads_do_not_matter(photos, augment):
    whole = take(feed_of(photos, augment=augment).training(0, 0, SIZE), 14)
    assert_equal(take(feed_of(photos, augment=augment).training(0, 4, SIZE), 4), whole[4:8])
    assert_equal(
        take(feed_of(photos, augment=augment, threads=1).training(1, 5, SIZE), 3), whole[11:]
    )


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_share_the_same_global_batches(photos, replicas):
    feed = feed_of(photos, augment=AUGMENT)
    whole = take(feed.training(0, 0, SIZE), 7)
    parts = [take(feed.training(0, 0, SIZE, r, replicas), 7) for r in range(replicas)]
    joined = [
        {key: np.concatenate([part[at][key] for part in parts]) for key in whole[0]}
        for at in range(7)
    ]
    assert_equal(joined, whole)


def test_augmentation_depends_on_epoch_and_example_alone(photos):
    feed, other = feed_of(photos, augment=AUGMENT), feed_of(photos, augment=AUGMENT, batch=5)

    def images(feed, epoch):
        batches = take(feed.training(epoch, 0, SIZE), feed.steps_per_epoch)
        rows = (zip(b["index"], b["image"], b["mask"], strict=True) for b in batches)
        return {row: image for batch in rows for row, image, mask in batch if mask}

    first, again, later = images(feed, 0), images(other, 0), images(feed, 1)
    assert all((first[row] == again[row]).all() for row in range(45))
    assert sum((first[row] != later[row]).any() for row in range(45)) >= 44


def test_evaluation_is_one_sorted_pass(photos):
    feed = Feed(folder_index(photos))
    batches = take(feed.evaluation(7, SIZE), 100)
    assert len(batches) == 7 and all(b["image"].shape == (7, SIZE, SIZE, 3) for b in batches)
    rows, mask = (np.concatenate([b[key] for b in batches]) for key in ("index", "mask"))
    np.testing.assert_array_equal(rows[mask == 1], range(45))
    np.testing.assert_array_equal(mask, [1.0] * 45 + [0.0] * 4)
    with pytest.raises(ValueError, match="no order"):
        feed.training(0, 0, SIZE)


def test_weights_follow_the_class(photos):
    feed = feed_of(photos, class_weights=(0.5, 2.0, 3.0))
    for batch in take(feed.training(0, 0, SIZE), 3):
        np.testing.assert_array_equal(batch["weight"], np.array([0.5, 2, 3])[batch["label"]])


def spoil(root) -> dict[str, str]:
    """Makes one file of each kind of corrupt; names and what the record must say."""
    bad = {
        "a/00.jpg": "truncated JPEG",
        "b/01.png": "truncated PNG",
        "c/02.bmp": "empty",
        "a/03.jpg": "not an image (JPEG, PNG, GIF, BMP or WebP)",
    }
    for name in ("a/00.jpg", "b/01.png"):
        path = root / name
        path.write_bytes(path.read_bytes()[:-40])
    (root / "c/02.bmp").write_bytes(b"")
    (root / "a/03.jpg").write_text("this is no picture")
    # A PNG by the name of .jpg is fine.
    (root / "a/06.jpg").write_bytes((root / "b/04.png").read_bytes())
    return bad


def test_corrupt_files_keep_their_place(photos, copy, tmp_path):
    bad = spoil(copy)
    recorder = CorruptRecorder(45, "skip", 5 / 45, tmp_path / "corrupt.jsonl")
    feed = feed_of(copy, recorder=recorder)
    (copy / "a/09.jpg").unlink()
    bad["a/09.jpg"] = "missing"
    rows_of_bad = [feed.index.names.index(name) for name in bad]

    healthy = take(feed_of(photos).training(0, 0, SIZE), 12)
    got = take(feed.training(0, 0, SIZE), 12)
    changed = feed.index.names.index("a/06.jpg")
    for a, b in zip(got, healthy, strict=True):
        np.testing.assert_array_equal(a["index"], b["index"])
        np.testing.assert_array_equal(a["label"], b["label"])
        is_bad = np.isin(a["index"], rows_of_bad)
        np.testing.assert_array_equal(a["mask"], b["mask"] * ~is_bad)
        assert not a["image"][is_bad].any()
        same = ~is_bad & (a["index"] != changed)
        np.testing.assert_array_equal(a["image"][same], b["image"][same])
        assert a["image"][a["index"] == changed].any(axis=(1, 2, 3)).all()
    read_again = CorruptRecorder(45, "skip", 4 / 45, tmp_path / "corrupt.jsonl")
    assert read_again.reasons == bad
    recorder.check()
    with pytest.raises(DataError, match="5 of 45"):
        read_again.check()


def test_evaluation_records_corrupt_files_too(copy):
    bad = spoil(copy)
    recorder = CorruptRecorder(45, "fail", split="test")
    batches = take(Feed(folder_index(copy), recorder=recorder).evaluation(9, SIZE), 10)
    assert sum(b["mask"].sum() for b in batches) == 45 - len(bad)
    assert recorder.reasons == bad
    with pytest.raises(DataError, match="policy is fail"):
        recorder.check()


def test_a_batch_of_corrupt_files_only(copy):
    for path in copy.glob("*/*.*"):
        path.write_bytes(b"")
    recorder = CorruptRecorder(45, "skip", 1.0)
    batches = take(feed_of(copy, recorder=recorder).training(0, 0, SIZE), 6)
    assert not any(b["mask"].any() or b["image"].any() for b in batches)
    assert len(recorder) == 45


def test_odd_names_are_read(copy):
    for at, name in enumerate(["a b", 'it\'s "q"', "line\nbreak", "日本 é", "%s $HOME *[1]"]):
        (copy / "b" / f"0{3 * at + 1}.png".replace("010", "10").replace("013", "13")).rename(
            copy / "b" / f"{name}.png"
        )
    batches = take(Feed(folder_index(copy)).evaluation(5, SIZE), 100)
    assert sum(b["mask"].sum() for b in batches) == 45


@pytest.mark.parametrize("batch", [1, 3, 13, 32])
def test_batches_of_any_size(photos, batch):
    feed = feed_of(photos, batch=batch)
    batches = take(feed.training(0, 0, SIZE), feed.steps_per_epoch)
    rows = np.concatenate([b["index"][b["mask"] == 1] for b in batches])
    assert sorted(rows) == list(range(45))


@pytest.mark.parametrize(("epoch", "step"), [(-1, 0), (0, -1), (0, 6)])
def test_starts_out_of_range_are_refused(photos, epoch, step):
    with pytest.raises(ValueError, match=r"\[0, 5\]"):
        feed_of(photos).training(epoch, step, SIZE)


def test_replicas_that_do_not_fit_are_refused(photos):
    with pytest.raises(EnvironmentNotAble, match="batch_size"):
        feed_of(photos, batch=6).training(0, 0, SIZE, 0, 4)
    with pytest.raises(ValueError, match=r"\[0, 1\], was 2"):
        feed_of(photos).training(0, 0, SIZE, 2, 2)
    index = folder_index(photos)
    with pytest.raises(ValueError, match="44"):
        Feed(index, order=Order(44, 8, 8, 1, 4, 2))


class Stripes:
    """A source that draws its pictures and breaks on one of them."""

    def __init__(self, path: str, options: dict) -> None:
        self.names = [f"stripe {n}" for n in (3, 1, 2, 0, 4, 5)]
        self.labels = [1, 1, 0, 0, 1, 0]
        self.classes = ("even", "odd")
        self.digest = f"{path}{options}"

    @staticmethod
    def load(name):
        number = tf.strings.to_number(tf.strings.split(name)[1], tf.int32)
        if number == 4:
            tf.debugging.assert_equal(number, 0, message="stripe is torn")
        return tf.cast(tf.fill([20, 30, 3], number * 10), tf.uint8)


@pytest.fixture
def stripes():
    registry.register("source", "test_stripes")(Stripes)
    yield "test_stripes"
    del registry._known["source"]["test_stripes"]


def test_a_plugin_is_a_source(stripes):
    index, load = plugin_source(stripes, "/anywhere", {"x": 1})
    assert index.names == [f"stripe {n}" for n in range(6)]
    assert index.labels == [0, 1, 0, 1, 1, 0] and index.digest == "plugin:/anywhere{'x': 1}"
    assert index.subset([0, 1]).digest not in (index.digest, index.subset([0, 2]).digest)
    recorder = CorruptRecorder(6, "skip", 1 / 6)
    feed = Feed(index, order=Order(6, 4, 4, 1, 2, 2), load=load, recorder=recorder)
    for batch in take(feed.training(0, 0, SIZE), feed.steps_per_epoch):
        wanted = np.where(batch["index"] == 4, 0, batch["index"] * 10)
        np.testing.assert_array_equal(batch["image"][:, 3, 5, 1], wanted)
        assert not batch["mask"][batch["index"] == 4].any()
    assert list(recorder.reasons) == ["stripe 4"]
    assert "stripe is torn" in recorder.reasons["stripe 4"]


def test_a_plugin_may_look_into_a_table(stripes):
    index, _ = plugin_source(stripes, "/anywhere", {})
    keys = tf.constant(index.names)
    shades = tf.lookup.KeyValueTensorInitializer(keys, tf.range(6, dtype=tf.int64) * 10)
    table = tf.lookup.StaticHashTable(shades, -1)

    def load(name):
        return tf.cast(tf.fill([20, 30, 3], table.lookup(name)), tf.uint8)

    feed = Feed(index, order=Order(6, 4, 4, 1, 2, 2), load=load)
    for batch in take(feed.training(0, 0, SIZE).take(2), 2):
        np.testing.assert_array_equal(batch["image"][:, 3, 5, 1], batch["index"] * 10)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"names": []}, "no examples"),
        ({"labels": [0]}, "6 names but 1 labels"),
        ({"labels": [0, 1, 2, 0, 1, 0]}, "labels from 0 to 2"),
        ({"classes": ("one",)}, "fewer than two classes"),
        ({"names": ["same"] * 6}, "same name"),
        ({"names": [f"\udce9{n}" for n in range(6)]}, r"\\udce9"),
        ({"digest": None}, "digest"),
    ],
)
def test_a_bad_source_is_refused(stripes, monkeypatch, change, says):
    def make(path, options):
        source = Stripes(path, options)
        for name, value in change.items():
            if value is None:
                delattr(source, name)
            else:
                setattr(source, name, value)
        return source

    monkeypatch.setitem(registry._known["source"], stripes, make)
    with pytest.raises(DataError, match=says):
        plugin_source(stripes, "", {})


def test_a_source_must_keep_the_classes_of_training(stripes):
    with pytest.raises(DataError, match="other classes"):
        plugin_source(stripes, "", {}, classes=("odd", "even"))


def shared_out(root, global_batch: int, parts: int, ranks: int, devices: int, steps: int):
    """By step: the rows of all ranks, devices and parts, in the order in which they are drawn."""
    feed = feed_of(root, batch=global_batch, augment=AUGMENT)
    each = global_batch // (ranks * devices * parts)
    joined = []
    of_ranks = [
        take(feed.training(0, 1, SIZE, rank, ranks, parts=parts, devices=devices), steps * parts)
        for rank in range(ranks)
    ]
    for batches in of_ranks:
        assert {len(batch["mask"]) for batch in batches} == {devices * each}
    for step in range(steps):
        pieces = [
            {
                key: value[device * each : (device + 1) * each]
                for key, value in batches[step * parts + part].items()
            }
            for batches in of_ranks
            for device in range(devices)
            for part in range(parts)
        ]
        joined.append({key: np.concatenate([one[key] for one in pieces]) for key in pieces[0]})
    return joined


@pytest.mark.parametrize(
    ("parts", "ranks", "devices"),
    [(1, 1, 2), (4, 1, 1), (2, 1, 2), (1, 2, 2), (2, 2, 1), (2, 2, 2), (4, 2, 2), (3, 2, 1)],
)
def test_parts_of_all_devices_of_all_ranks_are_the_global_batch(photos, parts, ranks, devices):
    """A device computes consecutive rows of the global batch, part by part; to the epoch's end."""
    batch = 24 if parts == 3 else 16
    feed = feed_of(photos, batch=batch, augment=AUGMENT)
    steps = feed.steps_per_epoch
    whole = take(feed.training(0, 1, SIZE), steps)
    assert_equal(shared_out(photos, batch, parts, ranks, devices, steps), whole)
    # The last step of the first epoch is ragged, and every example comes once.
    first = take(feed.training(0, 0, SIZE), steps)
    rows = np.concatenate([each["index"][each["mask"] == 1] for each in first])
    assert sorted(rows) == list(range(45))
    assert any((each["mask"] == 0).any() for each in first)


@pytest.mark.parametrize(("parts", "devices"), [(3, 1), (1, 3), (4, 4), (2, 8)])
def test_rows_that_cannot_be_shared_are_refused(photos, parts, devices):
    feed = feed_of(photos, batch=8)
    with pytest.raises(ValueError, match=f"8 rows are not shared by {devices} devices in {parts}"):
        feed.training(0, 0, SIZE, parts=parts, devices=devices)


@pytest.mark.parametrize(("batch", "replicas"), [(8, 1), (8, 2), (8, 4), (12, 3), (45, 1), (64, 2)])
def test_replicas_evaluate_each_example_once_in_the_rows_of_one(photos, batch, replicas):
    feed = Feed(folder_index(photos))
    whole = take(feed.evaluation(batch, SIZE), 100)
    parts = [take(feed.evaluation(batch, SIZE, r, replicas), 100) for r in range(replicas)]
    # All have as many batches, also those that are left with padding: they bring sums together.
    assert {len(part) for part in parts} == {len(whole)} == {-(-45 // batch)}
    joined = [
        {key: np.concatenate([part[at][key] for part in parts]) for key in whole[0]}
        for at in range(len(whole))
    ]
    assert_equal(joined, whole)
    mask = np.concatenate([each["mask"] for each in joined])
    rows = np.concatenate([each["index"] for each in joined])
    np.testing.assert_array_equal(rows[mask == 1], range(45))


def test_an_evaluation_has_no_such_replica(photos):
    with pytest.raises(ValueError, match=r"replica must be in \[0, 1\], was 2"):
        Feed(folder_index(photos)).evaluation(8, SIZE, 2, 2)


def test_a_pass_over_all_examples_is_built_once_for_each_shape_asked_for(photos):
    feed = Feed(folder_index(photos))
    first = feed.evaluation(8, SIZE)
    assert feed.evaluation(8, SIZE) is first
    seen = [[int(row) for batch in first for row in batch["index"]] for _ in range(2)]
    assert seen[0] == seen[1]
    other = feed.evaluation(8, SIZE * 2)
    assert next(iter(other))["image"].shape == (8, SIZE * 2, SIZE * 2, 3)
    half = feed.evaluation(8, SIZE, 1, 2)
    assert next(iter(half))["image"].shape == (4, SIZE, SIZE, 3)
    again = feed.evaluation(8, SIZE)
    assert [[int(row) for batch in again for row in batch["index"]]] == seen[:1]
