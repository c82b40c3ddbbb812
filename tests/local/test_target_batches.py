"""The batches of a target beside those of the source: from any step on, for any replicas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.index import folder_index
from harness.data.manifest_columns import ManifestOptions
from harness.data.order import Order, canonical_rows
from harness.data.pack import pack
from harness.data.packing import Packing, PackOptions
from harness.data.pipeline import Feed
from harness.data.unlabelled import unlabelled_index
from harness.distribute.topology import Topology
from harness.spec import load_spec
from harness.worker.target import TargetBatches

BATCH, LANES, STEPS = 8, 8, 14
SIDE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    made = tmp_path_factory.mktemp("target")
    write_pictures(made / "source", ["a", "b"], 17, SIDE)
    write_pictures(made / "plain", ["x", "y", "z"], 7, SIDE)
    write_pictures(made / "few", ["any"], 3, SIDE)
    (made / "plain" / "x" / "broken.png").write_bytes(b"no picture")
    source = folder_index(made / "plain")
    asked = PackOptions(shard_bytes=900)
    packing = Packing(source, canonical_rows(len(source)), made / "packed", asked, None)
    pack(packing)
    assert packing.finish() is not None
    return made


class Stream:
    """Source and target of a spec, joined."""

    def __init__(self, folder: Path, kind: str, seed: int = 3) -> None:
        spec = {
            "harness_spec": 1,
            "name": "joined",
            "backbone": {"handle": "keras:MobileNet"},
            "data": {"train": str(folder / "source"), "image_size": SIDE},
            "head": {"hidden": [4]},
            "training": {"batch_size": BATCH, "seed": seed},
            "adaptation": {"method": "coral", "target": str(folder / kind)},
        }
        self.source = folder_index(folder / "source")
        self.order = Order(len(self.source), BATCH, LANES, seed, 2, 2)
        target = unlabelled_index(str(folder / kind), ManifestOptions())
        self.count = len(target)
        self._target = TargetBatches(
            load_spec(spec).spec,
            lambda order: Feed(target, order=order),
            target.example_bytes,
            len(target),
        )

    def batches(self, start: int, count: int, rank: int = 0, ranks: int = 1) -> list[Any]:
        epoch, step = divmod(start, self.order.steps_per_epoch)
        mine = Feed(self.source, order=self.order).training(epoch, step, SIDE, rank, ranks)
        place = Topology(rank=rank, size=ranks)
        joined = self._target.beside(mine, self.order, epoch, step, SIDE, place, 1)
        return list(joined.take(count).as_numpy_iterator())


@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_they_start_anywhere_and_replicas_share_them(folder: Path, kind: str) -> None:
    stream = Stream(folder, kind)
    whole = stream.batches(0, STEPS)
    assert whole[0]["target"].shape == (BATCH, SIDE, SIDE, 3)
    # In the second epoch of the source, and the third of the target.
    for one, other in zip(whole[7:], stream.batches(7, STEPS - 7), strict=True):
        for key in ("image", "target", "target_mask"):
            np.testing.assert_array_equal(one[key], other[key])
    halves = [stream.batches(5, 4, rank, 2) for rank in (0, 1)]
    for at, batch in enumerate(whole[5:9]):
        for key in ("index", "target", "target_mask"):
            both = np.concatenate([half[at][key] for half in halves])
            np.testing.assert_array_equal(batch[key], both)


@pytest.mark.parametrize(("kind", "usable"), [("plain", 21), ("few", 3)])
def test_each_epoch_of_the_target_has_each_example_once(
    folder: Path, kind: str, usable: int
) -> None:
    stream = Stream(folder, kind)
    steps = -(-stream.count // BATCH)
    whole = stream.batches(0, 3 * steps)
    orders = []
    for epoch in range(3):
        some = whole[epoch * steps : (epoch + 1) * steps]
        kept = [
            row.tobytes()
            for batch in some
            for row, mask in zip(batch["target"], batch["target_mask"], strict=True)
            if mask
        ]
        # One that cannot be read keeps its place, with mask 0.
        assert len(kept) == usable
        orders.append(kept)
    assert len(set(map(tuple, orders))) > 1 or usable < 4
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])


def test_another_seed_draws_another_order(folder: Path) -> None:
    one, other = (Stream(folder, "plain", seed).batches(0, 3) for seed in (3, 4))
    assert any((a["target"] != b["target"]).any() for a, b in zip(one, other, strict=True))
