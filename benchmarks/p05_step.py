"""P5, step cost: what the training step adds to the bare arithmetic of it.

Both sides train the same small head with the same optimizer on the same batch that never
changes, 200 steps in one call of a ``tf.function``.  Ours has in addition what the loop needs: the
loss over the global batch by mask and weight, metric sums, the schedule, the check for values that
are not finite, and the counters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from benchmarks.rows import Row, compare, seconds

BATCH, SIDE, CLASSES, STEPS = 32, 16, 13, 200


def rows() -> Iterator[Row]:
    """Seconds a step of head training."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    ours, theirs, spread = compare(_timed(_harness()), _timed(_bare()), repeats=9)
    yield Row(
        id="P5",
        work="one step of a small head",
        peer="a bare tf.function loop over the same steps",
        ours=ours,
        theirs=theirs,
        target=1.10,
        better="lower",
        spread=spread,
        note=f"{STEPS} steps a call, batch {BATCH}",
    )


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    return lambda: seconds(call) / STEPS


def _batch() -> dict:
    import numpy as np

    random = np.random.default_rng(0)
    return {
        "image": random.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8),
        "label": random.integers(0, CLASSES, BATCH).astype(np.int32),
        "mask": np.ones(BATCH, np.float32),
        "weight": np.ones(BATCH, np.float32),
    }


def _endless() -> Iterator:
    import tensorflow as tf

    return iter(tf.data.Dataset.from_tensors(_batch()).cache().repeat())


def _spec():
    from harness.spec import load_spec

    return load_spec(
        {
            "harness_spec": 1,
            "name": "bench",
            "backbone": {"handle": "plugin:bench_pixels"},
            "data": {"train": ".", "image_size": SIDE},
            "head": {"hidden": [256]},
            "training": {"batch_size": BATCH, "schedule": {"name": "cosine", "warmup": "5%"}},
        }
    ).spec


def _model(spec):
    import tf_keras

    from harness.distribute.single import SingleDevice
    from harness.model.assemble import assemble
    from harness.model.backbone import Backbone
    from harness.model.task import make_task

    images = tf_keras.Input((SIDE, SIDE, 3))
    pixels = tf_keras.Model(images, tf_keras.layers.Flatten()(images))
    pixels.trainable = False
    names = tuple(map(str, range(CLASSES)))
    task = make_task("image_classification", names, label_smoothing=0.0, metrics={})
    device = SingleDevice()
    backbone = Backbone("bench", pixels, None, None)
    return assemble(spec, backbone, task, device, (SIDE,)), device


def _harness() -> Callable[[], object]:
    import tensorflow as tf

    from harness.train.optimizer import make_optimizer
    from harness.train.plan import make_plan
    from harness.train.step import Steps

    spec = _spec()
    model, device = _model(spec)
    steps = Steps(model, make_optimizer(spec), device, BATCH)
    many = steps.compile(make_plan(spec, lambda batch: 10**6).phases[0])
    batches, count = _endless(), tf.constant(STEPS)
    return lambda: (many(batches, count), steps.progress())


def _bare() -> Callable[[], object]:
    import tensorflow as tf
    import tf_keras

    model, _ = _model(_spec())
    optimizer = tf_keras.optimizers.Adam(1e-3, jit_compile=False)
    optimizer.build(model.trainable())
    last = tf.Variable(0.0)

    @tf.function
    def many(batches, count):
        for _ in tf.range(count):
            batch = next(batches)
            with tf.GradientTape() as tape:
                logits = model.keras(batch["image"], training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], logits)
                loss = tf.reduce_mean(losses)
            variables = model.trainable()
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            last.assign(loss)

    batches, count = _endless(), tf.constant(STEPS)
    return lambda: (many(batches, count), float(last))
