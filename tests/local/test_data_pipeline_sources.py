"""The pipeline with a plug-in as a source."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.corrupt import CorruptRecorder
from harness.errors import DataError
from harness.plugins import registry

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")
from harness.data.order import Order  # noqa: E402
from harness.data.pipeline import Feed  # noqa: E402
from harness.data.sources import plugin_source  # noqa: E402
from tests.local.pipeline_helpers import SIZE, take  # noqa: E402


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
