"""Several labels at once: cells, loss and figures, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.data.multilabel import (
    as_numbers,
    numbers_as_taken,
    present,
    state_of,
    states_as_numbers,
    taken,
)
from harness.model.multilabel import Multilabel
from harness.spec.models_data import DataSpec
from harness.spec.several_labels import several_labels


@pytest.mark.parametrize(
    ("cell", "uncertain", "state"),
    [
        ("1", None, "1"),
        ("0.0", None, "0"),
        ("-1", None, None),
        ("yes", None, None),
        ("1_0", 10, None),
        ("-1.0", -1, "-"),
        ("2", 2, "-"),
        ("-1", 2, None),
    ],
)
def test_a_cell_is_present_absent_or_uncertain(cell, uncertain, state):
    assert state_of(cell, uncertain) == state


@pytest.mark.parametrize(
    ("as_", "signs", "numbers"),
    [
        ("ignore", "01??", [0, 1, -1, -1]),
        ("zero", "010?", [0, 1, 0, -1]),
        ("one", "011?", [0, 1, 1, -1]),
    ],
)
def test_uncertain_labels_are_taken_alike_from_a_manifest_and_from_a_file(as_, signs, numbers):
    assert taken("01-?", as_) == signs
    states = states_as_numbers(["01-?", "????"])
    assert states.dtype == np.int8 and states.tolist() == [[0, 1, -1, -2], [-2] * 4]
    found = numbers_as_taken(states, as_)
    assert found.dtype == np.float32 and found[0].tolist() == numbers
    np.testing.assert_array_equal(found, as_numbers([signs, "????"]))


def test_signs_as_numbers_and_counts():
    assert as_numbers(["01?", "110"]).tolist() == [[0, 1, -1], [1, 1, 0]]
    assert present(["01?", "110"], 3) == [1, 2, 0]


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    targets = draw.integers(-1, 2, (40, 3)).astype(np.float32)
    mask = (draw.random(40) < 0.8).astype(np.float32)
    return targets, draw.normal(size=(40, 3)).astype(np.float32), mask


@pytest.mark.parametrize("smooth", [0.0, 0.2])
def test_the_loss_is_the_mean_over_what_is_known(smooth):
    targets, logits, _ = _drawn(1)
    found = Multilabel(("a", "b", "c"), label_smoothing=smooth).losses(targets, logits, True)
    chance = 1 / (1 + np.exp(-logits.astype(np.float64)))
    soft = np.maximum(targets, 0) * (1 - smooth) + smooth / 2
    each = -(soft * np.log(chance) + (1 - soft) * np.log(1 - chance))
    for row, value in enumerate(found.numpy()):
        known = targets[row] >= 0
        assert value == pytest.approx(each[row][known].mean() if known.any() else 0.0, rel=1e-5)


BATCHES = st.integers(1, 12).flatmap(
    lambda rows: st.integers(1, 5).flatmap(
        lambda labels: st.tuples(
            hnp.arrays(np.float32, (rows, labels), elements=st.sampled_from([-1.0, 0.0, 1.0])),
            hnp.arrays(np.float32, (rows, labels), elements=st.floats(-40, 40, width=32)),
            hnp.arrays(np.float32, rows, elements=st.sampled_from([0.0, 1.0])),
            hnp.arrays(np.float32, rows, elements=st.floats(0, 8, width=32)),
        )
    )
)


def _gradient(task: Multilabel, targets, logits, mask, weight, whole: float):
    """(loss, its gradient by the logits) of some rows of a global batch of ``whole`` examples."""
    with tf.GradientTape() as tape:
        given = tf.constant(logits)
        tape.watch(given)
        losses = task.losses(tf.constant(targets), given, True)
        loss = tf.reduce_sum(mask * weight * losses) / max(whole, 1.0)
    return loss.numpy(), tape.gradient(loss, given).numpy()


@settings(max_examples=60)
@given(BATCHES, st.sampled_from([0.0, 0.3]))
def test_the_masked_loss_is_that_of_numpy(batch, smooth):
    targets, logits, mask, weight = batch
    task = Multilabel(tuple("abcde")[: targets.shape[1]], label_smoothing=smooth)
    loss, gradient = _gradient(task, *batch, mask.sum())
    x, known = logits.astype(np.float64), targets >= 0
    soft = np.maximum(targets, 0) * (1 - smooth) + smooth / 2
    each = known * (np.logaddexp(0, x) - soft * x)
    count = np.maximum(known.sum(1), 1)
    scale = mask * weight / max(mask.sum(), 1.0)
    assert loss == pytest.approx((scale * each.sum(1) / count).sum(), rel=1e-4, abs=1e-5)
    slope = known * (1 / (1 + np.exp(-x)) - soft) * (scale / count)[:, None]
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=5e-6)
    assert not gradient[~known].any() and not gradient[mask == 0].any()


@settings(max_examples=60)
@given(BATCHES, st.data())
def test_the_masked_loss_does_not_depend_on_how_replicas_share_a_batch(batch, data):
    targets, mask = batch[0], batch[2]
    task = Multilabel(tuple("abcde")[: targets.shape[1]], label_smoothing=0.1)
    rows = len(mask)
    cuts = sorted(data.draw(st.sets(st.integers(1, rows - 1)) if rows > 1 else st.just(set())))
    parts = list(zip([0, *cuts], [*cuts, rows], strict=True))
    whole = mask.sum()
    loss, gradient = _gradient(task, *batch, whole)
    found = [_gradient(task, *(one[a:b] for one in batch), whole) for a, b in parts]
    assert sum(part for part, _ in found) == pytest.approx(loss, rel=1e-5, abs=1e-6)
    joined = np.concatenate([part for _, part in found])
    np.testing.assert_allclose(joined, gradient, rtol=1e-5, atol=1e-6)

    def sums(some: slice) -> dict[str, np.ndarray]:
        t, x, m, w = (tf.constant(one[some]) for one in batch)
        return {k: v.numpy() for k, v in task.sums.update(t, x, x[:, 0], m, w).items()}

    together, apart = sums(slice(None)), [sums(slice(a, b)) for a, b in parts]
    for name, value in together.items():
        np.testing.assert_allclose(sum(one[name] for one in apart), value, rtol=1e-12, atol=1e-12)


def test_figures_add_up_over_parts_and_agree_with_numpy():
    task = Multilabel(("a", "b", "c"))
    targets, logits, mask = _drawn(2)
    losses = task.losses(targets, logits, False)
    ones = np.ones(40, np.float32)
    sums = task.sums.zeros()
    for part in (slice(0, 7), slice(7, 40)):
        more = task.sums.update(
            *(tf.constant(x[part]) for x in (targets, logits, losses.numpy(), mask, ones))
        )
        sums = {name: sums[name] + more[name].numpy() for name in sums}
    found = task.sums.result(sums)
    assert tuple(found) == tuple(task.sums.figure_names())
    known = (targets >= 0) & (mask > 0)[:, None]
    guess, truth = logits >= 0, targets > 0
    assert found["accuracy"] == pytest.approx((guess == truth)[known].mean())
    whole = (~known | (guess == truth)).all(1)[mask > 0]
    assert found["exact_accuracy"] == pytest.approx(whole.mean())
    hit, both = (guess & truth & known).sum(0), (guess & known).sum(0) + (truth & known).sum(0)
    assert found["f1"] == pytest.approx((2 * hit / both).mean())
    assert found["micro_f1"] == pytest.approx(2 * hit.sum() / both.sum())
    areas = []
    for label in range(3):
        high = logits[known[:, label] & truth[:, label], label]
        low = logits[known[:, label] & ~truth[:, label], label]
        areas.append((high[:, None] > low[None]).mean())
    assert found["auc"] == pytest.approx(np.mean(areas), abs=0.01)  # 200 bins


@pytest.mark.parametrize(
    ("task", "data", "path"),
    [
        ("image_multilabel", {}, "data.columns.labels"),
        ("image_classification", {"columns": {"labels": ["a"]}}, "data.columns.labels"),
        ("image_classification", {"uncertain": {}}, "data.uncertain"),
        ("image_multilabel", {"columns": {"labels": ["a", "a"]}}, "data.columns.labels"),
        ("image_multilabel", {"columns": {"labels": ["a"], "label": "b"}}, "data.columns.label"),
        (
            "image_multilabel",
            {"columns": {"labels": ["a"]}, "balance": "oversample"},
            "data.balance",
        ),
        (
            "image_multilabel",
            {"columns": {"labels": ["a"]}, "uncertain": {"value": 1}},
            "data.uncertain.value",
        ),
    ],
)
def test_what_does_not_go_together(task, data, path):
    found = several_labels(task, DataSpec.model_validate({"train": "a.csv", **data}))
    assert [one.path for one in found] == [path]


def test_packed_sets_have_the_names_of_their_labels_themselves():
    spec = DataSpec.model_validate({"train": "sets/train", "test": "test.csv"})
    assert not list(several_labels("image_multilabel", spec))
