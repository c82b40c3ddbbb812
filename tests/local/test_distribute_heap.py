"""Memory of a process with a distributed data set: large blocks stay in the heap."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, json, os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tensorflow as tf
from harness.distribute.heap import keep_heap
from harness.distribute.mirrored import Mirrored

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
         "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]

def mapped(size):
    before = libc.mallinfo2().hblks
    libc.malloc(size)
    return libc.mallinfo2().hblks - before

def use(dataset):
    next(iter(dataset))

if sys.argv[1] == "ours":
    one = Mirrored(["/CPU:0"])
    share = one.share
else:
    share = tf.distribute.MirroredStrategy(["/CPU:0"]).experimental_distribute_dataset
batches = tf.data.Dataset.from_tensors({"image": tf.zeros([2, 4])}).repeat(4)
use(share(batches))
use(share(batches))
print(json.dumps([mapped(size) for size in (1 << 20, 20 << 20, 64 << 20)]))
"""


@pytest.mark.parametrize(
    ("whose", "mapped"),
    [
        ("ours", [0, 0, 1]),
        # What it is good for: the day TensorFlow leaves the heap alone this line can go.
        ("tensorflow's", [1, 1, 1]),
    ],
)
def test_blocks_of_a_step_are_not_mapped_anew(whose: str, mapped: list[int]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, whose],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == mapped
