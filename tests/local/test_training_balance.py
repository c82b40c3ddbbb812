"""Training with as many examples of each class: any replica count, any start, exact resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.cli.main import main
from harness.data.augment import Augmenter
from harness.data.index import folder_index
from harness.data.order import Order
from harness.data.pipeline import Feed
from harness.data.resampling import Resampling
from harness.spec.models_augment import Augment
from tests.local.training_helpers import assert_same_result, call, mischief, write_spec

COUNTS = {"many": 30, "some": 11, "few": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", list(COUNTS), max(COUNTS.values()), 16)
    write_pictures(folder / "test", list(COUNTS), 4, 16)
    for name, count in COUNTS.items():
        for picture in sorted((folder / "train" / name).iterdir())[count:]:
            picture.unlink()
    return folder


def feed_of(data: Path, kind: str, **more) -> Feed:
    index = folder_index(data / "train")
    resampling = Resampling(index.labels, kind, 5)
    order = Order(len(resampling), 8, 8, 5, 2, 2)
    return Feed(index, order=order, resampling=resampling, **more)


def take(dataset, count: int) -> list[dict[str, np.ndarray]]:
    return list(dataset.take(count).as_numpy_iterator())


@pytest.mark.parametrize(("kind", "each"), [("oversample", 30), ("undersample", 4)])
def test_replicas_and_late_starts_share_the_batches(data, kind, each):
    augment = Augmenter(Augment(flip="both", brightness=0.3), 5)
    feed = feed_of(data, kind, augment=augment)
    steps = 2 * feed.steps_per_epoch
    whole = take(feed.training(0, 0, 16), steps)
    for epoch in (whole[: steps // 2], whole[steps // 2 :]):
        labels = np.concatenate([one["label"][one["mask"] == 1] for one in epoch])
        assert np.bincount(labels).tolist() == [each] * 3
    late = take(feed.training(1, 1, 16), 1)[0]
    parts = [take(feed.training(0, 0, 16, replica, 2), steps) for replica in range(2)]
    for key, value in whole[steps // 2 + 1].items():
        np.testing.assert_array_equal(late[key], value)
    for at, one in enumerate(whole):
        for key, value in one.items():
            joined = np.concatenate([part[at][key] for part in parts])
            np.testing.assert_array_equal(joined, value)


def test_an_example_that_comes_again_is_changed_in_another_way(data):
    augment = Augmenter(Augment(brightness=0.1), 5)
    feed = feed_of(data, "oversample", augment=augment)
    seen: dict[int, list[bytes]] = {}
    for one in take(feed.training(0, 0, 16), feed.steps_per_epoch):
        for row, image, mask in zip(one["index"], one["image"], one["mask"], strict=True):
            if mask:
                seen.setdefault(int(row), []).append(image.tobytes())
    again = [pictures for pictures in seen.values() if len(pictures) > 1]
    assert len(again) == COUNTS["few"] + COUNTS["some"]
    assert all(len(set(pictures)) > 1 for pictures in again)


def test_a_run_that_was_killed_ends_with_the_same_bits(data, tmp_path, tiny_backbone, capsys):
    results = []
    for name, at in (("left alone", None), ("killed", 9)):
        folder = tmp_path / name
        folder.mkdir()
        changes = mischief(folder) if at is None else mischief(folder, at=at)
        changes |= {"data.balance": "oversample", "data.validation": None}
        spec = write_spec(folder, tiny_backbone, data, **changes)
        command = ("run", str(spec), "--run-dir", str(folder / "run"))
        code, _, err = call(*command)
        if at is not None:
            assert code == -9
            code, _, err = call(*command)
        assert code == 0, err
        results.append(folder / "run")
    assert_same_result(*results)
    record = json.loads((results[0] / "run.json").read_text())
    assert record["examples_per_epoch"] == 90
    assert record["counts"]["train"] == 45
    assert main(["plan", str(tmp_path / "killed" / "spec.yaml"), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["total_steps"] == record["total_steps"]


def test_packed_data_are_refused(data, tmp_path, tiny_backbone, capsys):
    assert main(["pack", str(data / "train"), str(tmp_path / "packed")]) == 0
    changes = {"data.train": str(tmp_path / "packed"), "data.balance": "undersample"}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    capsys.readouterr()
    assert main(["run", str(spec), "--run-dir", str(tmp_path / "run")]) == 2
    assert "packed data are read in whole blocks" in capsys.readouterr().err
