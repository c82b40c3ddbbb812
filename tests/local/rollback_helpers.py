"""A run whose loss, or a weight, is not finite from a step on while its rate is high."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.local.training_helpers import write_spec

# From a step on the loss of one row is not a number as long as the rate is high: of the first
# replica only, if there are more.  Or a weight is infinite on which no loss hangs.  The callback
# sends its process signals, each once: where the training has begun so often in this process, and
# so many steps are done.
BREAKS = """
AT, ABOVE, HIDDEN = {bad}, {hidden}
import os, pathlib
import tensorflow as tf
import tf_keras
from harness.plugins import register

OPTIMIZER = []

class Breaks(tf_keras.layers.Layer):
    def __init__(self, draws):
        super().__init__()
        self.draws = draws
        self.seen = self.add_weight(name="seen", trainable=False) if HIDDEN else None

    def call(self, x, training=False):
        if not training:
            return x
        bad = tf.logical_and(self.draws.step >= AT, OPTIMIZER[0].learning_rate > ABOVE)
        bad = tf.logical_and(bad, tf.equal(self.draws.distribution.replica(), 0))
        if HIDDEN:
            self.seen.assign(tf.where(bad, float("inf"), self.seen))
            return tf.identity(x)
        first = tf.cast(tf.equal(tf.range(tf.shape(x)[0]), 0), x.dtype)[:, None]
        return x * (1.0 + first * tf.where(bad, float("nan"), 0.0))

@register("head", "breaks")
def breaks(features, outputs, draws):
    return Breaks(draws)(tf_keras.layers.Dense(outputs)(features))

@register("callback", "ends")
class Ends(tf_keras.callbacks.Callback):
    def __init__(self, ends, folder):
        super().__init__()
        self.ends, self.folder, self.times = ends, pathlib.Path(folder), 0

    def set_model(self, model):
        super().set_model(model)
        OPTIMIZER[:] = [model.optimizer]

    def on_train_begin(self, logs=None):
        self.times += 1
        self.look()

    def on_train_batch_end(self, batch, logs=None):
        self.look()

    def look(self):
        done = int(self.model.optimizer.iterations.numpy())
        for begun, at, number in self.ends:
            mark = self.folder / f"mark-{begun}-{at}"
            if (self.times, done) == (begun, at) and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), number)

    def get_state(self):
        return dict()

    def set_state(self, state):
        pass
"""


def write(
    folder: Path,
    backbone: Path,
    data: Path,
    bad: tuple[int, float] = (7, 0.003),
    ends: Sequence[tuple[int, int, int]] = (),
    hidden: bool = False,
    **more: Any,
) -> Path:
    """A run of two phases of 12 steps.

    Args:
        bad: step from which on the loss is not finite, and the rate above which it is so.
        ends: (beginning of the training in a process, steps done, signal) of the callback.
        hidden: a weight is not finite in place of the loss.
    """
    folder.mkdir(exist_ok=True)
    options = {"ends": [list(map(int, each)) for each in ends], "folder": str(folder)}
    changes = {
        "plugins": [str(folder / "breaks.py")],
        "head": {"plugin": "plugin:breaks"},
        "training.callbacks": [{"plugin": "ends", "options": options}],
        "training.nan": "rollback",
        "logging.every": "1 steps",
    }
    text = BREAKS.replace("{bad}", f"{bad[0]}, {bad[1]}").replace("{hidden}", str(hidden))
    (folder / "breaks.py").write_text(text)
    return write_spec(folder, backbone, data, **changes | more)
