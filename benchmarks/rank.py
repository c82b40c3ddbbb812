"""One process of the benches of several ranks: ``python -m benchmarks.rank WORK STRATEGY CORES``.

Prints ``ready`` and then, for every line with a number on standard input, works so many times and
prints the seconds that took.  It is pinned to the cores that are named, before TensorFlow starts.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

BATCH, SIDE, CLASSES = 32, 224, 10


def main() -> None:
    """Reads the arguments and serves standard input until its end."""
    work, strategy, cores = sys.argv[1:]
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(len(cores.split(",")))
    distribution = _distribution(strategy)
    call = _WORK[work](distribution)
    call(1)
    print("ready", flush=True)
    for line in sys.stdin:
        distribution.barrier()
        begun = time.perf_counter()
        call(int(line))
        print(time.perf_counter() - begun, flush=True)
    # Horovod's and TensorFlow's own ends wait for one another in turn.
    os._exit(0)


def _distribution(strategy: str) -> Any:
    """The distribution of a run, by the code of a run."""
    from harness.distribute.choose import choose
    from harness.distribute.topology import Topology
    from harness.worker.links import links_of
    from harness.worker.ranks import Ranks

    topology = Topology.from_environment(os.environ)
    ranks = Ranks(topology, lambda text: print(text, file=sys.stderr))
    ranks.meet(os.environ, None)
    replicas = 2 if strategy == "mirrored" else None
    links = links_of(ranks, os.environ)
    # The links to the other ranks must live as long as they do.
    _KEPT.append(ranks)
    return choose(strategy, "cpu", topology, replicas=replicas, links=links).distribution


_KEPT: list[Any] = []


def _fine_tuning(distribution: Any) -> Callable[[int], object]:
    """Steps that train all weights of MobileNetV2, without the cost of reading pictures."""
    import numpy as np
    import tensorflow as tf
    import tf_keras

    from harness.model.assemble import assemble
    from harness.model.backbone import Backbone
    from harness.model.task import make_task
    from harness.spec import load_spec
    from harness.train.optimizer import make_optimizer
    from harness.train.plan import make_plan
    from harness.train.step import Steps

    spec = load_spec(
        {
            "harness_spec": 1,
            "name": "bench",
            "backbone": {"handle": "plugin:bench"},
            "data": {"train": ".", "image_size": SIDE},
            "training": {
                "batch_size": BATCH * distribution.replicas,
                "phases": [{"name": "all", "epochs": 1, "unfreeze": "all"}],
            },
        }
    ).spec
    tf_keras.utils.set_random_seed(1)
    with distribution.scope():
        body = tf_keras.applications.MobileNetV2(
            (SIDE, SIDE, 3), include_top=False, weights=None, pooling="avg"
        )
        names = tuple(map(str, range(CLASSES)))
        task = make_task("image_classification", names, label_smoothing=0.0, metrics={})
        model = assemble(spec, Backbone("bench", body, None, None), task, distribution, (SIDE,))
    examples = BATCH * distribution.replicas
    steps = Steps(model, make_optimizer(spec), distribution, examples)
    many = steps.compile(make_plan(spec, lambda batch: 10**6).phases[0])
    random = np.random.default_rng(0)
    rows = BATCH * distribution.local_replicas
    batch = {
        "image": random.integers(0, 256, (rows, SIDE, SIDE, 3), np.uint8),
        "label": random.integers(0, CLASSES, rows).astype(np.int32),
        "mask": np.ones(rows, np.float32),
        "weight": np.ones(rows, np.float32),
    }
    data = tf.data.Dataset.from_tensors(batch).cache().repeat()
    batches = iter(distribution.share(data))
    return lambda count: (many(batches, tf.constant(count)), steps.progress())


GRADIENTS = 160
_GRADIENT_SHAPES = [(64, 96), (96,), (3, 3, 96), (96, 160)]
"""Of small layers; 160 of them are about 3.7 MB."""


def _reduction(one: bool) -> Callable[[Any], Callable[[int], object]]:
    def make(distribution: Any) -> Callable[[int], object]:
        import numpy as np
        import tensorflow as tf

        shapes = [_GRADIENT_SHAPES[i % len(_GRADIENT_SHAPES)] for i in range(GRADIENTS)]
        if one:
            shapes = [(sum(int(np.prod(shape)) for shape in shapes),)]

        @tf.function
        def many(count: tf.Tensor) -> tf.Tensor:
            # Each sum is of the one before, so that none is left out or done at once with another;
            # zeros, so that they do not grow.
            values = [tf.zeros(shape) for shape in shapes]
            for _ in tf.range(count):
                values = distribution.run(lambda values: distribution.reduce_sum(values), values)
            return values[0]

        return lambda count: many(tf.constant(count)).numpy()

    return make


_WORK: dict[str, Callable[[Any], Callable[[int], object]]] = {
    "fine-tuning": _fine_tuning,
    "gradients": _reduction(one=False),
    "flat": _reduction(one=True),
}

if __name__ == "__main__":
    main()
