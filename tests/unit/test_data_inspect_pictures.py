"""Pictures that are looked at, and the grid of what augmentation makes of them."""

from __future__ import annotations

import io
import shutil
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.corrupt import probe
from harness.data.index import ExampleIndex, folder_index
from harness.data.inspect import Spread, describe, open_data, sample_rows
from harness.data.pack_plan import PackOptions
from harness.data.packed_examples import packed_examples
from harness.data.packing import Packing
from harness.errors import DataError
from harness.spec.models_augment import Augment, RandAugment

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from harness.data.augment import Augmenter  # noqa: E402
from harness.data.decode import prepare_image  # noqa: E402
from harness.data.inspect_pictures import augmented_grid, look_at, tiled  # noqa: E402
from harness.data.inspect_sources import kind_of, source_of  # noqa: E402
from harness.data.mixing import Mixing  # noqa: E402
from harness.data.order import Order, canonical_rows  # noqa: E402
from harness.data.pack import pack  # noqa: E402
from harness.data.pipeline import Feed  # noqa: E402

SIZE = 16
BROKEN = {
    "b/2.jpg": "truncated JPEG",
    "b/3.png": "empty",
    "b/4.png": "not an image (JPEG, PNG, GIF, BMP or WebP)",
}
AUGMENT = Augment(
    flip="both",
    rotate_deg=20.0,
    shear_deg=10.0,
    hue=0.1,
    randaugment=RandAugment(ops=2, magnitude=8.0),
    cutout=0.3,
)


def picture(width: int, height: int, kind: str, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Six whole pictures of four kinds, and three that cannot be decoded."""
    root = tmp_path_factory.mktemp("mixed")
    files = {
        "a/0.jpg": picture(20, 10, "JPEG"),
        "a/1.png": picture(30, 12, "PNG"),
        "a/2.jpg": picture(40, 14, "PNG", 1),  # the content decides
        "a/3.gif": picture(50, 16, "GIF"),
        "b/0.bmp": picture(60, 18, "BMP"),
        "b/1.jpeg": picture(70, 20, "JPEG", 2),
        "b/2.jpg": picture(70, 20, "JPEG")[:-40],
        "b/3.png": b"",
        "b/4.png": b"plain text",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_pictures_are_looked_at(mixed):
    index = folder_index(mixed)
    counted, lock = [], threading.Lock()

    def seen(count):
        with lock:
            counted.append(count)

    found = look_at(source_of(index, None), range(len(index)), seen)
    assert found.looked_at == sum(counted) == 9
    assert found.widths == Spread(20, 40, 70)
    assert found.heights == Spread(10, 14, 20)
    assert found.kinds == {"JPEG": 2, "PNG": 2, "GIF": 1, "BMP": 1}
    assert found.broken == BROKEN
    assert not found.all_broken


def test_some_of_them_in_any_order(mixed):
    index = folder_index(mixed)
    rows = [index.names.index(name) for name in ("b/3.png", "a/1.png", "b/2.jpg")]
    found = look_at(source_of(index, None), rows)
    assert (found.looked_at, list(found.broken)) == (3, ["b/2.jpg", "b/3.png"])
    assert look_at(source_of(index, None), rows[:1]).all_broken


@pytest.fixture
def packed(mixed, tmp_path):
    """The same examples packed into several shards."""
    index = folder_index(mixed)
    packing = Packing(index, canonical_rows(9), tmp_path / "packed", PackOptions(3000), None)
    pack(packing)
    done = packing.finish()
    assert done is not None
    assert len(done.shards) > 2
    return done.root


def test_packed_examples_are_those_of_the_folder(mixed, packed):
    examples = open_data(packed)
    found = look_at(source_of(examples, None), range(9))
    assert found == look_at(source_of(folder_index(mixed), None), range(9))
    said = describe(examples, "packed", found)
    assert said.counts == {"a": 4, "b": 5}
    sizes = [path.stat().st_size for path in packed.glob("*.tfrecord")]
    assert said.file_bytes == Spread.of(sizes)
    assert said.digest == examples.digest
    # The draws of augmentation hang on the name, wherever it stands.
    pictures = {}
    for index in (folder_index(mixed), examples):
        source, augmenter = source_of(index, None), Augmenter(Augment(rotate_deg=90.0), 1)
        grid = augmented_grid(source, augmenter, range(9), 9, 2, SIZE)
        lines = cells(grid.picture, 6, 3)
        pictures[type(index)] = {n: x.tobytes() for n, x in zip(grid.names, lines, strict=True)}
        assert grid.broken == BROKEN
    one, other = pictures.values()
    assert one == other


def test_damaged_records_are_named_by_their_place(packed):
    source = source_of(packed_examples(packed), None)
    by_size = sorted(packed.glob("*.tfrecord"), key=lambda path: path.stat().st_size)
    gone, changed = by_size[0], by_size[-1]
    gone.unlink()  # purged after the set was opened
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    broken = look_at(source, range(9)).broken
    assert broken[f"{gone.name}#0"] == f"{gone.name} is missing"
    (place,) = (name for name, why in broken.items() if why == "its record has a wrong checksum")
    assert place.startswith(f"{changed.name}#")


def test_a_file_that_went_away_is_missing(mixed, tmp_path):
    index = ExampleIndex(tmp_path, ["a/0.png"], [0], ("a", "b"), (), "digest")
    assert look_at(source_of(index, None), [0]).broken == {"a/0.png": "missing"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_kinds_are_called_as_where_they_are_broken(kind, tmp_path):
    content = picture(9, 9, kind)
    assert kind_of(content) == kind
    (tmp_path / "cut").write_bytes(content[:20])
    assert kind in probe(tmp_path / "cut")
    assert kind_of(b"plain") == "other"


def plugin_index(names):
    return ExampleIndex(__file__, names, [0] * len(names), ("a", "b"), (), "plugin:1")


def load(name):
    """Pictures of a plug-in: as wide as the name is long, and none for those with a minus."""
    with tf.control_dependencies([tf.debugging.assert_none_equal(name, "-no")]):
        return tf.zeros([4, tf.strings.length(name), 3], tf.uint8)


def test_pictures_of_a_plugin_have_no_kind():
    found = look_at(source_of(plugin_index(["-no", "aa", "bbbb"]), load), range(3))
    assert (found.looked_at, found.kinds, found.widths) == (3, {}, Spread(2, 2, 4))
    assert list(found.broken) == ["-no"]
    assert found.broken["-no"]


def cells(grid, rows, columns):
    """[rows, columns, S, S, 3] of a grid, whose gaps must be white."""
    step = SIZE + 4
    assert grid.shape == (rows * step + 4, columns * step + 4, 3)
    left = grid.copy()
    found = np.zeros((rows, columns, SIZE, SIZE, 3), np.uint8)
    for row, column in np.ndindex(rows, columns):
        top, left_edge = row * step + 4, column * step + 4
        place = np.s_[top : top + SIZE, left_edge : left_edge + SIZE]
        found[row, column] = grid[place]
        left[place] = 255
    assert (left == 255).all()
    return found


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 5))
def test_tiles_stand_in_rows(rows, columns):
    pictures = np.random.default_rng(rows).integers(
        0, 256, (rows, columns, SIZE, SIZE, 3), np.uint8
    )
    np.testing.assert_array_equal(cells(tiled(pictures), rows, columns), pictures)


def test_a_grid_shows_what_training_sees(mixed, tmp_path):
    root, epochs = shutil.copytree(mixed, tmp_path / "whole"), 3
    for name in BROKEN:
        (root / name).unlink()
    index, augmenter = folder_index(root), Augmenter(AUGMENT, seed=5)
    grid = augmented_grid(source_of(index, None), augmenter, range(6), 6, epochs, SIZE)
    assert grid.names == tuple(index.names)
    assert grid.broken == {}
    shown = cells(grid.picture, 6, 1 + epochs)
    feed = Feed(index, order=Order(6, 3, 1, 5, 4, 2), augment=augmenter)
    met = []
    for number, batch in enumerate(feed.training(0, 0, SIZE).take(2 * epochs)):
        for row, image in zip(batch["index"].numpy(), batch["image"].numpy(), strict=True):
            np.testing.assert_array_equal(shown[row, 1 + number // 2], image)
            met.append((row, number // 2))
    assert sorted(met) == list(np.ndindex(6, epochs))
    for line, name in zip(shown, grid.names, strict=True):
        plain = prepare_image(tf.constant((mixed / name).read_bytes()), SIZE)
        np.testing.assert_array_equal(line[0], plain)


def test_a_grid_shows_what_is_mixed_with_the_row_above(mixed):
    source, augmenter = source_of(folder_index(mixed), None), Augmenter(AUGMENT, seed=5)
    plain, cut = (
        cells(augmented_grid(source, augmenter, range(9), 9, 2, SIZE, mixing).picture, 6, 3)
        for mixing in (None, Mixing(Augment(cutmix=1.0), 5))
    )
    np.testing.assert_array_equal(cut[:, 0], plain[:, 0])
    own, other = plain[:, 1:], np.roll(plain[:, 1:], 1, axis=0)
    assert ((cut[:, 1:] == own) | (cut[:, 1:] == other)).all()
    parts = (cut[:, 1:] == own).all(-1).mean(axis=(2, 3))
    assert len(set(parts.ravel().tolist())) > 6, "each cell has an area of its own"
    assert (parts >= 0.5).all()


def test_broken_pictures_make_room_for_others(mixed):
    rows = [8, 7, 0, 6, 1, 2]
    source = source_of(folder_index(mixed), None)
    grid = augmented_grid(source, Augmenter(AUGMENT, 1), rows, 2, 1, SIZE)
    assert grid.names == ("a/0.jpg", "a/1.png")
    assert grid.broken == BROKEN
    assert cells(grid.picture, 2, 2).shape[0] == 2


def test_a_grid_of_broken_pictures_is_an_error(mixed):
    source = source_of(folder_index(mixed), None)
    with pytest.raises(DataError, match="none of the 3 examples that were drawn"):
        augmented_grid(source, Augmenter(AUGMENT, 1), [6, 7, 8], 2, 1, SIZE)


def test_a_grid_of_a_plugins_pictures():
    source = source_of(plugin_index(["-no", "aa", "bbbb"]), load)
    rows = sample_rows(len(source), 8, 1)
    grid = augmented_grid(source, Augmenter(AUGMENT, 1), rows, 8, 2, SIZE)
    assert sorted(grid.names) == ["aa", "bbbb"]
    assert cells(grid.picture, 2, 3)[:, 0].max() == 0
