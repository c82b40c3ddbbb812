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


THREAD = """
import ctypes, os, resource, sys, threading
os.environ["TF_USE_LEGACY_KERAS"] = "1"
from harness.distribute.single import SingleDevice
if sys.argv[1] == "held":
    SingleDevice("/CPU:0")
libc = ctypes.CDLL(None)
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a fault is to be a page
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
SIZE, found = 20 << 20, []

def use():
    block = libc.malloc(SIZE)
    ctypes.memset(block, 1, SIZE)
    libc.free(block)

def run():
    use()
    kept = [libc.malloc(15 << 20) for _ in range(3)]  # the next needs a heap of its own
    use()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(4):
        use()
    found.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

thread = threading.Thread(target=run)
thread.start()
thread.join()
print(found[0] * resource.getpagesize() / SIZE)
"""


@pytest.mark.parametrize(("whose", "least", "most"), [("held", 0, 0.1), ("glibc's", 1, 100)])
def test_a_thread_gets_the_pages_again_that_it_gave_back(
    whose: str, least: float, most: float
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREAD, whose],
        env={name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert least <= float(done.stdout) <= most
