"""Batches of texts."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.corrupt import CorruptRecorder
from harness.data.index import folder_index
from harness.data.lanes import lane_count
from harness.data.media import TEXT
from harness.errors import DataError
from harness.spec.models_augment import Augment
from tests.local.text_helpers import TEXTS, data, index

__all__ = ["data", "index"]  # fixtures, found by their names


def feed_of(index, *, seed=5, batch=8, augment=None, **more):
    from harness.data.content import Texts
    from harness.data.order import Order
    from harness.data.pipeline import Feed

    order = Order(len(index), batch, lane_count(batch), seed, 4, 2)
    content = Texts()
    augmenter = content.augmenter(augment, seed) if augment else None
    return Feed(index, order=order, augment=augmenter, content=content, **more)


def taken(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def same(one, other) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b) == {"text", "label", "mask", "weight", "index"}
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_any_step_can_be_the_first_and_replicas_share_the_batches(index):
    feed = feed_of(index, augment=Augment(word_drop=0.3))
    whole = taken(feed.training(0, 0, None), 2 * feed.steps_per_epoch)
    same(taken(feed.training(1, 2, None), 4), whole[feed.steps_per_epoch + 2 :][:4])
    parts = [taken(feed.training(0, 0, None, replica, 4), len(whole)) for replica in range(4)]
    for step, batch in enumerate(whole):
        for key, rows in batch.items():
            shared = np.concatenate([part[step][key] for part in parts])
            np.testing.assert_array_equal(shared, rows, err_msg=key)
    seen = [row for b in whole[: feed.steps_per_epoch] for row in b["index"][b["mask"] > 0]]
    assert sorted(seen) == list(range(TEXTS))


def test_texts_are_those_of_the_index_and_words_drop_out_by_epoch(index):
    plain, dropping = feed_of(index), feed_of(index, augment=Augment(word_drop=0.3))
    steps = plain.steps_per_epoch
    kept = 0.0
    for one, other in zip(
        taken(plain.training(0, 0, None), 3 * steps),
        taken(dropping.training(0, 0, None), 3 * steps),
        strict=True,
    ):
        np.testing.assert_array_equal(one["index"], other["index"])
        for row, text, less in zip(one["index"], one["text"], other["text"], strict=True):
            assert text == index.texts[row]
            words = iter(text.split())
            assert all(word in words for word in less.split()), "the order of the words stays"
            kept += len(less.split())
    assert kept / (3 * steps * 8 * 8) == pytest.approx(0.7, abs=0.05)
    first, second = (taken(dropping.training(epoch, 0, None), steps) for epoch in (0, 1))
    by_row = [
        {row: text for b in epoch for row, text in zip(b["index"], b["text"], strict=True)}
        for epoch in (first, second)
    ]
    assert sum(by_row[0][row] != by_row[1][row] for row in range(TEXTS)) > TEXTS * 0.75


def test_broken_files_keep_their_places_and_are_named(data, tmp_path):
    import shutil

    root = shutil.copytree(data / "test", tmp_path / "copy")
    healthy = taken(feed_of(folder_index(root, medium=TEXT)).training(0, 0, None), 2)
    stands = {"cat/101.txt": b"\xff\xfe", "dog/103.txt": b"", "dog/105.txt": b"\xef\xbb\xbf \n"}
    for name, content in stands.items():
        (root / name).write_bytes(content)
    (root / "cat" / "102.txt").write_bytes(b"\xef\xbb\xbfwith a mark \r\n")
    recorder = CorruptRecorder(16, "skip", 0.1)
    broken = feed_of(folder_index(root, medium=TEXT), recorder=recorder)
    found = taken(broken.training(0, 0, None), 2)
    for one, other in zip(healthy, found, strict=True):
        np.testing.assert_array_equal(one["index"], other["index"])
    texts = {row: text for b in found for row, text in zip(b["index"], b["text"], strict=True)}
    masks = {row: mask for b in found for row, mask in zip(b["index"], b["mask"], strict=True)}
    rows = {name: row for row, name in enumerate(folder_index(root, medium=TEXT).names)}
    assert [masks[rows[name]] for name in stands] == [0, 0, 0] and sum(masks.values()) == 13
    assert texts[rows["cat/101.txt"]] == b"" and texts[rows["cat/102.txt"]] == b"with a mark"
    assert recorder.reasons == {
        "cat/101.txt": "not UTF-8 (byte 0xff at 0)",
        "dog/103.txt": "empty",
        "dog/105.txt": "empty",
    }
    with pytest.raises(DataError, match="3 of 16 train examples cannot be read or decoded"):
        recorder.check()


def test_one_word_stays_however_many_drop():
    import tensorflow as tf

    from harness.data.augment_text import drop_words

    for seed in range(20):
        left = drop_words(tf.constant("a b c"), 0.999, tf.constant([seed, 1], tf.int64))
        assert left.numpy() in (b"a", b"b", b"c")
    assert drop_words(tf.constant(""), 0.5, tf.constant([1, 1], tf.int64)).numpy() == b""
