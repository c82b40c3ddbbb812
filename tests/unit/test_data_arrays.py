"""Arrays as examples: their order, what they become, and what is refused."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harness.data.arrays import ArraySource
from harness.data.content import content_of
from harness.data.corrupt import CorruptRecorder
from harness.data.order import Order
from harness.data.pipeline import Feed
from harness.data.sources import plugin_source
from harness.errors import DataError
from harness.plugins import register
from harness.spec.models_data import Audio

LABELS = np.arange(12) % 2
PICTURES = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)


@contextmanager
def feed_of(name, examples, medium="image", audio=None, recorder=None):
    register("source", name)(lambda path, options: ArraySource(examples, LABELS, ("a", "b")))
    index, load = plugin_source(name, "", {})
    order = Order(len(index), 4, 4, 1, 2, 2)
    yield Feed(index, order=order, load=load, recorder=recorder, content=content_of(medium, audio))


@pytest.mark.parametrize("shape", [(12, 8, 8, 3), (12, 8, 8, 1), (12, 8, 8)])
def test_pictures_from_any_step_are_those_of_the_whole_epoch(shape):
    held = PICTURES if shape[-1] == 3 else PICTURES[..., :1].reshape(shape)
    with feed_of(f"pictures{len(shape)}{shape[-1]}", held) as feed:
        steps = feed.steps_per_epoch
        whole = list(feed.training(0, 0, 8).take(steps).as_numpy_iterator())
        late = list(feed.training(0, 1, 8).take(steps - 1).as_numpy_iterator())
    for one, same in zip(whole[1:], late, strict=True):
        assert one["index"].tolist() == same["index"].tolist()
        np.testing.assert_array_equal(one["image"], same["image"])
    for batch in whole:
        np.testing.assert_array_equal(batch["image"], PICTURES[batch["index"]])
        np.testing.assert_array_equal(batch["label"], LABELS[batch["index"]])
    seen = np.concatenate([one["index"][one["mask"] > 0] for one in whole])
    assert sorted(seen.tolist()) == list(range(12))


def test_texts_and_recordings():
    with feed_of("texts", [f"word {n}" for n in range(12)], "text") as feed:
        (batch,) = feed.evaluation(12, None).as_numpy_iterator()
    assert batch["text"].tolist() == [b"word %d" % n for n in range(12)]
    sounds = np.linspace(-1, 1, 120, dtype=np.float32).reshape(12, 10)
    audio = Audio(rate_hz=1000, seconds=0.01)
    with feed_of("sounds", sounds, "audio", audio) as feed:
        (batch,) = feed.evaluation(12, None).as_numpy_iterator()
    np.testing.assert_array_equal(batch["audio"], sounds)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_sample_that_is_no_number_makes_its_recording_corrupt(odd):
    sounds = np.full((12, 10), 0.5, np.float32)
    sounds[7, 3] = odd
    audio = Audio(rate_hz=1000, seconds=0.01)
    recorder = CorruptRecorder(12, limit=1.0)
    with feed_of(f"odd{odd}", sounds, "audio", audio, recorder) as feed:
        (batch,) = feed.evaluation(12, None).as_numpy_iterator()
    assert batch["mask"].tolist() == [float(row != 7) for row in range(12)]
    assert not batch["audio"][7].any()
    ((name, reason),) = recorder.reasons.items()
    assert name.endswith("7") and "samples that are no numbers" in reason


def test_the_digest_is_that_of_all_there_is():
    def digest(examples=PICTURES, labels=LABELS, classes=("a", "b")):
        return ArraySource(examples, labels, classes).digest

    other = PICTURES.copy()
    other[3, 1, 2, 0] ^= 1
    found = [digest(), digest(other), digest(labels=1 - LABELS), digest(classes=("a", "c"))]
    found += [digest(PICTURES.reshape(12, 4, 16, 3)), digest(["ab", "c"] * 6)]
    assert len({*found, digest(["a", "bc"] * 6)}) == 7
    assert digest(PICTURES.copy()) == digest()


@pytest.mark.parametrize(
    ("examples", "labels"),
    [
        (PICTURES.astype(np.float32), LABELS),
        (PICTURES[..., :2], LABELS),
        (np.zeros((12, 5)), LABELS),
        ([1] * 12, LABELS),
        ([], LABELS[:0]),
        (PICTURES, LABELS[:5]),
        (PICTURES, LABELS / 2),
    ],
)
def test_other_types_and_shapes_are_refused(examples, labels):
    with pytest.raises(DataError, match=r"cannot be used, got|do not fit the examples, got"):
        ArraySource(examples, labels, ("a", "b"))
