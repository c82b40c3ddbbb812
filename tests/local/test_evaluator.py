"""Pass after pass over a data set that is evaluated after every epoch."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from harness.deploy.evaluate import Evaluator
from harness.distribute.single import SingleDevice
from harness.model.task import make_task

EXAMPLES, BATCH = 22, 4
BATCHES = -(-EXAMPLES // BATCH)


class Rows:
    """Batches of two features and a label, and what was read of them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        padded = BATCHES * BATCH
        self.values = rng.normal(size=(padded, 2)).astype(np.float32)
        self.labels = rng.integers(0, 2, padded).astype(np.int32)
        self.mask = (np.arange(padded) < EXAMPLES).astype(np.float32)
        self.read: list[int] = []
        self.begun = 0

    def __call__(self) -> tf.data.Dataset:
        def note(first: np.int64) -> np.bool_:
            self.read.append(int(first))
            return np.bool_(True)

        def batch(first: tf.Tensor) -> dict[str, tf.Tensor]:
            noted = tf.numpy_function(note, [first], tf.bool)
            with tf.control_dependencies([noted]):
                at = first + tf.range(BATCH, dtype=tf.int64)
            found = {"features": self.values, "label": self.labels, "mask": self.mask}
            rows = {name: tf.gather(whole, at) for name, whole in found.items()}
            return rows | {"weight": tf.ones(BATCH)}

        options = tf.data.Options()
        options.autotune.enabled = False  # as all pipelines here: it would read ahead
        return tf.data.Dataset.range(0, BATCHES * BATCH, BATCH).map(batch).with_options(options)


@pytest.fixture
def rows() -> Rows:
    return Rows()


def evaluator(distribution: SingleDevice) -> Evaluator:
    """Of a model whose logits are its two features."""
    with distribution.scope():
        one = tf_keras.Input((2,))
        model = tf_keras.Model(one, tf_keras.layers.Activation("linear", dtype="float32")(one))
    task = make_task("image_classification", ("a", "b"), label_smoothing=0.0, metrics={})
    return Evaluator(model, task, distribution)


def right(rows: Rows) -> float:
    """The accuracy, counted by hand."""
    hits = rows.values.argmax(1) == rows.labels
    return float(hits[:EXAMPLES].mean())


def test_each_pass_has_every_example_once(rows: Rows) -> None:
    evaluated, dataset = evaluator(SingleDevice()), rows()
    once = list(range(0, BATCHES * BATCH, BATCH))
    for number in range(1, 4):
        found = evaluated.run(dataset, BATCHES)
        assert found["accuracy"] == pytest.approx(right(rows), abs=1e-12)
        assert rows.read == once * number  # and nothing is read for a pass that is not asked for


def test_passes_share_one_iterator(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated, dataset, begun = evaluator(SingleDevice()), rows(), []
    share = SingleDevice.share

    def counted(self: SingleDevice, data: tf.data.Dataset) -> tf.data.Dataset:
        begun.append(data)
        return share(self, data)

    monkeypatch.setattr(SingleDevice, "share", counted)
    for _ in range(3):
        evaluated.run(dataset, BATCHES)
    assert begun == [dataset]
    other = rows()
    evaluated.run(other, BATCHES)
    evaluated.run(dataset, BATCHES)
    assert begun == [dataset, other, dataset]


def test_a_pass_ends_where_it_is_said_to_end(rows: Rows) -> None:
    """A data set may go on with padding, as what is looked up in pieces does."""
    evaluated, dataset = evaluator(SingleDevice()), rows()
    some, hits = BATCHES - 2, rows.values.argmax(1) == rows.labels
    for _ in range(3):
        found = evaluated.run(dataset, some)
        assert found["accuracy"] == pytest.approx(hits[: some * BATCH].mean(), abs=1e-12)
    found = evaluated.run(dataset, BATCHES)
    assert found["accuracy"] == pytest.approx(right(rows), abs=1e-12)


def test_a_pass_that_was_broken_off_is_begun_anew(rows: Rows) -> None:
    evaluated, dataset = evaluator(SingleDevice()), rows()
    evaluated.run(dataset, BATCHES)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluated.run(dataset, BATCHES, stop)
    rows.read.clear()
    found = evaluated.run(dataset, BATCHES)
    assert rows.read == list(range(0, BATCHES * BATCH, BATCH))
    assert found["accuracy"] == pytest.approx(right(rows), abs=1e-12)


def test_what_is_made_ready_ahead_is_begun_for_each_pass(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a device with a memory of its own; nothing is held for it between the passes."""
    monkeypatch.setattr(SingleDevice, "share", lambda self, data: data.prefetch(2))
    evaluated, dataset = evaluator(SingleDevice()), rows()
    for number in range(1, 4):
        found = evaluated.run(dataset, BATCHES)
        assert found["accuracy"] == pytest.approx(right(rows), abs=1e-12)
        assert len(rows.read) == BATCHES * number
