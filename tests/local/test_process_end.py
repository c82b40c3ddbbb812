"""A process ends although a data set that calls Python code is still at work."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
import numpy as np
import tensorflow as tf
from harness import __main__ as entry
from harness.cli import main as frame

def slow(number):
    time.sleep(0.05)
    return number

data = tf.data.Dataset.range(10**6).map(lambda n: tf.numpy_function(slow, [n], tf.int64))
batches = iter(data.prefetch(4))
next(batches)
frame.main = lambda: 3
print("said")
entry.command()
"""


@pytest.mark.parametrize("time_of_trial", range(3))
def test_its_code_is_that_of_the_verb(time_of_trial: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (3, "said\n")
