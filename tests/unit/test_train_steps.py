"""Steps of one process: accumulated ones, ragged ones, and the gradient they stand for."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from step_helpers import BATCH, Stepper, assert_close, batches  # noqa: E402

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.train.step import whole_gradient  # noqa: E402

LIKE = {"rtol": 2e-5, "atol": 2e-6}


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_parts_added_up_are_the_larger_batch(parts: int) -> None:
    """With dropout, class weights, a penalty, unreadable files and a ragged last batch."""
    given = batches(5)
    one = Stepper(SingleDevice()).train(given)
    accumulated = Stepper(SingleDevice(), accumulate=parts)
    assert_close(accumulated.train(given), one, **LIKE)
    assert int(accumulated.steps.step.numpy()) == 5
    assert int(accumulated.optimizer.iterations.numpy()) == 5


def test_nothing_is_left_over_for_the_next_step() -> None:
    """One call of four steps, and four calls: the parts of one are gone in the next."""
    given = batches(4)
    one = Stepper(SingleDevice(), accumulate=4).train(given)
    other = Stepper(SingleDevice(), accumulate=4).train(given, calls=4)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_gradient_is_that_of_the_mean_over_the_examples_there_are(accumulate: int) -> None:
    (batch,) = batches(1)
    stepper = Stepper(SingleDevice(), accumulate=accumulate, dropout=0.0)
    before = [v.numpy() for v in stepper.keras.trainable_variables]
    rows = batch["mask"] > 0
    with tf.GradientTape() as tape:
        logits = stepper.keras(batch["image"][rows])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"][rows], logits)
        loss = tf.reduce_mean(losses * batch["weight"][rows]) + tf.add_n(stepper.keras.losses)
    wanted = tape.gradient(loss, stepper.keras.trainable_variables)
    stepper.train([batch])
    assert rows.sum() == 3
    for value, old, gradient in zip(stepper.keras.trainable_variables, before, wanted, strict=True):
        np.testing.assert_allclose(value.numpy(), old - 0.1 * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_of_nothing_but_padding_changes_nothing(accumulate: int) -> None:
    (batch,) = batches(1)
    batch["mask"][:] = 0.0
    stepper = Stepper(SingleDevice(), accumulate=accumulate)
    before = [v.numpy() for v in stepper.keras.trainable_variables]
    stepper.train([batch])
    for value, old in zip(stepper.keras.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(value.numpy(), old)
    assert int(stepper.steps.first_bad.numpy()) == -1
    assert stepper.steps.progress() == (0.0, 0.0)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_first_step_whose_loss_is_not_finite_is_remembered(accumulate: int) -> None:
    given = batches(4, ragged=False)
    given[2]["image"][BATCH - 1] = np.inf
    stepper = Stepper(SingleDevice(), accumulate=accumulate)
    stepper.train(given)
    assert int(stepper.steps.first_bad.numpy()) == 2


def test_the_sums_are_those_of_the_examples_there_are() -> None:
    given = batches(3)
    state = Stepper(SingleDevice(), accumulate=4).train(given)
    count = sum(each["mask"].sum() for each in given)
    assert state["sum count"] == count == 13 + 16 + 3
    assert state["sum actual"].sum() == state["sum predicted"].sum() == count
    weight = sum((each["mask"] * each["weight"]).sum() for each in given)
    assert state["sum weight_sum"] == pytest.approx(weight)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_model_can_be_called_in_training_mode_after_a_step(accumulate: int) -> None:
    """A callback may; what the loop in the graph has set must not stay with the model."""
    stepper = Stepper(SingleDevice(), accumulate=accumulate)
    stepper.train(batches(1))
    outputs = stepper.keras(batches(1)[0]["image"], training=True)
    assert np.isfinite(outputs.numpy()).all()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_mixed_examples_have_the_loss_of_the_mixed_target(accumulate: int) -> None:
    (batch,) = batches(1)
    random = np.random.default_rng(3)
    rows = len(batch["label"])
    batch |= {
        "share": random.uniform(0.5, 1.0, rows).astype(np.float32),
        "partner_label": random.integers(0, 3, rows, np.int32),
        "partner_weight": np.where(np.arange(rows) % 3, 0.5, 2.0).astype(np.float32),
    }
    stepper = Stepper(SingleDevice(), accumulate=accumulate, dropout=0.0)
    before = [v.numpy() for v in stepper.keras.trainable_variables]
    own = (batch["share"] * batch["weight"])[:, None] * np.eye(3)[batch["label"]]
    other = ((1 - batch["share"]) * batch["partner_weight"])[:, None] * np.eye(3)[
        batch["partner_label"]
    ]
    there = batch["mask"] > 0
    with tf.GradientTape() as tape:
        logits = tf.nn.log_softmax(stepper.keras(batch["image"]))
        losses = -tf.reduce_sum((own + other).astype(np.float32) * logits, axis=1)
        loss = tf.reduce_sum(losses * batch["mask"]) / there.sum()
        loss += tf.add_n(stepper.keras.losses)
    wanted = tape.gradient(loss, stepper.keras.trainable_variables)
    told = stepper.train([batch])
    for value, old, gradient in zip(stepper.keras.trainable_variables, before, wanted, strict=True):
        np.testing.assert_allclose(value.numpy(), old - 0.1 * gradient, rtol=1e-4, atol=1e-6)
    summed = float((losses.numpy() * batch["mask"]).sum())
    np.testing.assert_allclose(told["sum loss_sum"], summed, rtol=1e-5)


def test_the_gradient_of_a_table_says_how_large_the_table_is() -> None:
    """Inside of a SavedModel it is that of some rows, which does not know how many there are; and
    ranks put gradients together by their sizes."""
    table = tf.Variable(tf.zeros([7, 3]))
    seen = []

    @tf.function(input_signature=[tf.TensorSpec([2], tf.int64)])
    def whole(shape: tf.Tensor) -> tf.Tensor:
        rows = tf.IndexedSlices(tf.ones([2, 3]), tf.constant([4, 4], tf.int64), shape)
        seen.append(tf.convert_to_tensor(rows).shape.is_fully_defined())
        found = whole_gradient(rows, table)
        seen.append(found.shape == [7, 3])
        return found

    found = whole(tf.constant([7, 3], tf.int64)).numpy()
    assert seen == [False, True]
    np.testing.assert_array_equal(found.sum(1), [0, 0, 0, 0, 6, 0, 0])
