"""Mixup and cutmix: what is mixed with what, in which shares, from any start and on any replica."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.data.augment import Augmenter
from harness.data.index import folder_index
from harness.data.lanes import lane_count
from harness.data.mixing import Mixing, mixing_of, share_table
from harness.data.order import Order
from harness.data.pipeline import Feed
from harness.spec.models_augment import Augment
from tests.local.training_helpers import assert_same_result, call, mischief, write_spec

tf = pytest.importorskip("tensorflow")

SIZE = 16
BATCH = 8
KINDS = {"mixup": {"mixup": 0.4}, "cutmix": {"cutmix": 1.0}, "both": {"mixup": 0.4, "cutmix": 1.0}}


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    """21 pictures: the last batch of an epoch is ragged."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", ["blue", "green", "red"], 7, SIZE)
    write_pictures(folder / "test", ["blue", "green", "red"], 2, SIZE)
    return folder


def feed_of(data: Path, **options) -> Feed:
    index = folder_index(data / "train")
    order = Order(len(index), BATCH, lane_count(BATCH, None), 5, 2, 2)
    plain = Augment(flip="both")
    mixing = mixing_of(Augment(**options), 5)
    return Feed(index, order=order, augment=Augmenter(plain, 5), mixing=mixing)


def take(dataset, count: int) -> list[dict[str, np.ndarray]]:
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(other[key], value, err_msg=key)


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_row_is_mixed_with_that_of_the_batch_before(data, kind):
    plain = take(feed_of(data).training(0, 0, SIZE), 9)
    mixed = take(feed_of(data, **KINDS[kind]).training(0, 0, SIZE), 9)
    np.testing.assert_array_equal(mixed[0]["image"], plain[0]["image"])
    np.testing.assert_array_equal(mixed[0]["share"], np.ones(BATCH))
    seen = 0
    for before, own, both in zip(plain, plain[1:], mixed[1:], strict=False):
        for key in ("label", "mask", "weight", "index"):
            np.testing.assert_array_equal(both[key], own[key])
        np.testing.assert_array_equal(both["partner_label"], before["label"])
        np.testing.assert_array_equal(both["partner_weight"], before["weight"])
        alone = before["mask"] == 0
        np.testing.assert_array_equal(both["share"][alone], 1.0)
        np.testing.assert_array_equal(both["image"][alone], own["image"][alone])
        for row in np.flatnonzero(~alone):
            share, picture = float(both["share"][row]), both["image"][row].astype(int)
            assert 0.5 <= share <= 1 + 1e-6 or kind != "mixup"
            a, b = own["image"][row].astype(int), before["image"][row].astype(int)
            blended = np.abs(picture - (share * a + (1 - share) * b)).max() <= 0.5 + 1e-3
            pasted = _is_pasted(picture, a, b, share)
            assert {"mixup": blended, "cutmix": pasted, "both": blended or pasted}[kind]
            seen += share < 0.99
    assert seen > 10, "they are mixed"


def _is_pasted(picture: np.ndarray, own: np.ndarray, other: np.ndarray, share: float) -> bool:
    """Whether it is of the other picture in one rectangle of this share, and else its own."""
    pixels = SIZE * SIZE
    count = round((1 - share) * pixels)
    if not math.isclose(count, (1 - share) * pixels, abs_tol=1e-3):
        return False
    differs = (picture != own).any(-1)
    assert not (picture[differs] != other[differs]).any()
    rows, columns = (np.flatnonzero(differs.any(axis)) for axis in (1, 0))
    inside = (
        len(range(rows[0], rows[-1] + 1)) * len(range(columns[0], columns[-1] + 1))
        if (len(rows))
        else 0
    )
    # Pixels of both may be equal, so what differs may be less than the rectangle.
    return inside <= count


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (0, 2), (1, 0), (2, 1)])
def test_a_late_start_gives_the_same(data, kind, epoch, step):
    feed = feed_of(data, **KINDS[kind])
    at = epoch * feed.steps_per_epoch + step
    whole = take(feed.training(0, 0, SIZE), at + 2)
    for late, one in zip(take(feed.training(epoch, step, SIZE), 2), whole[at:], strict=True):
        assert_equal(late, one)


@pytest.mark.parametrize(("replicas", "parts", "devices"), [(2, 1, 1), (4, 2, 1), (1, 2, 2)])
def test_replicas_and_parts_mix_the_same_pairs(data, replicas, parts, devices):
    feed = feed_of(data, **KINDS["both"])
    whole = take(feed.training(0, 1, SIZE), 7)
    rows = [
        take(
            feed.training(0, 1, SIZE, replica, replicas, parts=parts, devices=devices),
            len(whole) * parts,
        )
        for replica in range(replicas)
    ]
    for at, one in enumerate(whole):
        for key, value in one.items():
            joined = np.concatenate(
                [
                    np.concatenate([own[at * parts + part][key] for part in range(parts)])
                    for own in rows
                ]
            )
            order = np.argsort(np.concatenate([_places(replicas, parts, devices)]))
            np.testing.assert_array_equal(joined[order], value, err_msg=key)


def _places(replicas: int, parts: int, devices: int) -> np.ndarray:
    """Of each row in the order of replicas and parts, its place in the global batch."""
    cut = np.arange(BATCH).reshape(replicas, devices, parts, -1)
    return cut.transpose(0, 2, 1, 3).reshape(-1)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0, 100.0])
def test_shares_are_of_the_beta_distribution(alpha):
    drawn = np.random.default_rng(1).beta(alpha, alpha, 200_000)
    wanted = np.quantile(np.maximum(drawn, 1 - drawn), [0.05, 0.25, 0.5, 0.75, 0.95])
    table = share_table(alpha)
    assert 0.999 < table[0] <= 1.0
    assert table[-1] == 0.5
    assert (np.diff(table) <= 0).all()
    got = np.interp([0.05, 0.25, 0.5, 0.75, 0.95], np.linspace(0, 1, len(table)), table[::-1])
    np.testing.assert_allclose(got, wanted, atol=4e-3)


def test_draws_are_even_and_of_each_example_and_epoch():
    mixing = Mixing(SimpleNamespace(mixup=1.0, cutmix=0.0), 3)
    keys = tf.constant(np.random.default_rng(2).integers(0, 1 << 62, 4000))
    for draws in mixing._draws(tf.constant(4, tf.int64), keys):
        counts, _ = np.histogram(draws.numpy(), 10, (0, 1))
        assert counts.sum() == 4000
        assert abs(counts - 400).max() < 100
    first, later = (mixing._draws(tf.constant(e, tf.int64), keys)[0] for e in (4, 5))
    assert abs(np.corrcoef(first, later)[0, 1]) < 0.06
    # What a resumed run draws is what was drawn before, whichever version resumes it.
    few = mixing._draws(tf.constant([0, 1], tf.int64), tf.constant([7, 7], tf.int64))
    np.testing.assert_allclose([one.numpy() for one in few], GOLDEN_DRAWS, atol=1e-7)


GOLDEN_DRAWS = [
    [0.90741408, 0.7952565],
    [0.23667145, 0.78661293],
    [0.18651158, 0.23003238],
    [0.42211002, 0.06809562],
]


def test_a_run_learns_with_both_and_ends_with_the_same_bits_after_a_kill(
    data, tmp_path, tiny_backbone
):
    for name, at in (("left", None), ("killed", 5)):
        folder = tmp_path / name
        folder.mkdir()
        changes = mischief(folder) if at is None else mischief(folder, at=at)
        changes |= {"data.augment": {"flip": "horizontal", **KINDS["both"]}}
        changes |= {"data.validation": None, "checkpoint.best": {"metric": "loss"}}
        changes |= {"training.phases": [{"name": "one", "epochs": 24, "learning_rate": 0.02}]}
        spec = write_spec(folder, tiny_backbone, data, **changes)
        command = ("run", str(spec), "--run-dir", str(folder / "run"))
        code, _, err = call(*command)
        if at is not None:
            assert code == -9
            code, _, err = call(*command)
        assert code == 0, err
    assert_same_result(tmp_path / "left" / "run", tmp_path / "killed" / "run")
    record = json.loads((tmp_path / "left" / "run" / "run.json").read_text())
    assert record["final"]["test_accuracy"] >= 0.8, record["final"]
