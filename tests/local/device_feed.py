"""Batches that are copied to a device ahead, in a process of its own: run by its test.

The device is a second logical CPU, which TensorFlow copies to as to a GPU.  Prints a line of JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from harness.distribute.devices import cpus

HOST, DEVICE = cpus(2)

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from harness.data.corrupt import CorruptRecorder  # noqa: E402
from harness.data.index import folder_index  # noqa: E402
from harness.data.order import Order  # noqa: E402
from harness.data.pipeline import Feed  # noqa: E402
from harness.distribute.single import SingleDevice  # noqa: E402

BATCH, SIZE = 8, 16


def batches(root: Path, device: str) -> tuple[list[dict[str, tf.Tensor]], list[str]]:
    """Of two epochs and a half, from step 1 on; and the names of what could not be read."""
    index = folder_index(root)
    recorder = CorruptRecorder(len(index), "skip", 0.5)
    order = Order(len(index), BATCH, BATCH, 3, 1, 16)
    feed = Feed(index, order=order, recorder=recorder)
    shared = SingleDevice(device).share(feed.training(0, 1, SIZE))
    found = list(itertools.islice(shared, order.steps_per_epoch * 5 // 2))
    return found, sorted(recorder.reasons)


def place(tensor: tf.Tensor) -> str:
    return str(tensor.device).rpartition("/device:")[2]


def main(root: Path) -> dict[str, Any]:
    (plain, lost), (ahead, lost_ahead) = (batches(root, device) for device in (HOST, DEVICE))
    for one, other in zip(plain, ahead, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key].numpy(), other[key].numpy(), err_msg=key)
    texts = tf.data.Dataset.from_tensors({"text": tf.constant(["a", "b"])})
    return {
        "batches": len(ahead),
        "devices": sorted({place(each) for batch in ahead for each in batch.values()}),
        "lost": [lost, lost_ahead],
        "texts stay": SingleDevice(DEVICE).share(texts) is texts,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
