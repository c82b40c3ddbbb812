"""Steps over two logical CPUs against one, in a process of their own: run by its test.

Prints a line of JSON: for each comparison the largest difference, relative to the larger value.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from harness.distribute.devices import cpus

DEVICES = cpus(2)

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
from step_helpers import BATCH, Stepper, batches, poison  # noqa: E402

from harness.distribute.mirrored import Mirrored  # noqa: E402
from harness.distribute.single import SingleDevice  # noqa: E402
from harness.errors import TrainingError  # noqa: E402
from harness.model.adaptation.statistics import estimate  # noqa: E402
from harness.model.draws import Draws  # noqa: E402
from harness.model.norm import SyncBatchNorm  # noqa: E402
from harness.train.agreement import check_equal  # noqa: E402
from harness.train.compiled import CompiledSteps  # noqa: E402
from harness.train.scaling import LossScale, ScaledSteps  # noqa: E402
from harness.train.step import Steps  # noqa: E402


def largest(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Relative to the largest value of each tensor."""
    assert one.keys() == other.keys(), (one.keys(), other.keys())
    return max(
        float(np.abs(value - other[name]).max(initial=0) / (np.abs(value).max(initial=0) + 1e-6))
        for name, value in one.items()
    )


def compared(**options: Any) -> float:
    given = batches(5)
    one = Stepper(SingleDevice(), **{**options, "accumulate": 1, "kind": Steps}).train(given)
    return largest(one, Stepper(Mirrored(DEVICES), **options).train(given))


def normalised_in_parts() -> float:
    """Moments are those of a part over all replicas: the same parts on one device."""
    given, options = batches(3), {"norm": True, "accumulate": 2, "dropout": 0.0}
    dealt = [{name: _dealt(rows) for name, rows in each.items()} for each in given]
    one = Stepper(SingleDevice(), **options).train(dealt)
    return largest(one, Stepper(Mirrored(DEVICES), **options).train(given))


def drawn() -> float:
    """Draws after a place where replicas take turns: each is still in the part that it was in."""
    several, one = (Draws(3, each) for each in (Mirrored(DEVICES), SingleDevice()))
    several.parts = 2

    @tf.function
    def both() -> Any:
        def own() -> tf.Tensor:
            several.part = 1
            several.distribution.reduce_sum([tf.ones(1)])
            found = several.uniform(tf.zeros([4, 3]), 0)
            several.part = 0
            return found

        return several.distribution.run_each(own)

    whole = one.uniform(tf.zeros([16, 3]), 0).numpy().reshape(2, 2, 4, 3)
    return float(np.abs(np.stack([each.numpy() for each in both().values]) - whole[:, 1]).max())


def _dealt(rows: np.ndarray) -> np.ndarray:
    """Rows so that the halves on one device hold what the parts over two devices hold."""
    return rows.reshape(2, 2, -1, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)


def statistics() -> float:
    """Batch-norm statistics of a target, of Keras' layers and of ours."""
    examples = np.random.default_rng(3).normal(2.0, 3.0, (24, 5)).astype(np.float32)

    def estimated(distribution: Any) -> dict[str, Any]:
        with distribution.scope():
            tf_keras.utils.set_random_seed(5)
            inputs = tf_keras.Input((5,))
            x = tf_keras.layers.BatchNormalization(name="keras")(inputs)
            x = SyncBatchNorm(distribution, name="ours")(tf_keras.layers.Dense(3, "tanh")(x))
            model = tf_keras.Model(inputs, x)
        estimate(model, [tf.constant(examples[:12]), tf.constant(examples[12:])], distribution)
        found = {w.name: distribution.copies(w) for w in model.weights if "moving" in w.name}
        return {f"{name} {at}": of[at % len(of)] for name, of in found.items() for at in (0, 1)}

    return largest(estimated(SingleDevice()), estimated(Mirrored(DEVICES)))


def unequal() -> dict[str, str]:
    """What is said of equal copies, and of copies one of which has a bit flipped."""
    two = Mirrored(DEVICES)
    with two.scope():
        named = {"fine": tf.Variable([1.0, 2.0]), "odd": tf.Variable([1.0, -0.0])}
    check_equal(two, named, "at the start")
    copies = two.copies(named["odd"])
    assert [copy.tobytes() for copy in copies] == [copies[0].tobytes()] * 2
    two._local(named["odd"])[1].assign([1.0, 0.0])
    try:
        check_equal(two, named, "after step 3")
    except TrainingError as error:
        return {"unequal": str(error)}
    return {"unequal": "nothing"}


def scaled() -> dict[str, Any]:
    """With a loss scale: a step that one device alone makes infinite is skipped by both."""
    given = batches(5, ragged=False)
    at_fault = [*given[:2], poison(given[2], BATCH - 1), *given[3:]]
    found: dict[str, Any] = {}
    for parts in (1, 2):
        two, one = LossScale(), LossScale()
        kind = functools.partial(ScaledSteps, scaling=two)
        stepper = Stepper(Mirrored(DEVICES), accumulate=parts, kind=kind)
        mirrored = stepper.train(at_fault)
        check_equal(stepper.distribution, _named(stepper), "at the end")
        kind = functools.partial(ScaledSteps, scaling=one)
        single = Stepper(SingleDevice(), accumulate=parts, kind=kind).train(at_fault)
        found[f"scaled in {parts}"] = largest(single, mirrored)
        found[f"scales in {parts}"] = [two.to_json(), one.to_json()]
    return found


def _named(stepper: Stepper) -> dict[str, Any]:
    variables = [*stepper.keras.weights, *stepper.optimizer.variables]
    return {f"{at} {variable.name}": variable for at, variable in enumerate(variables)}


def main() -> None:
    found: dict[str, Any] = {
        "plain": compared(),
        "accumulated": compared(accumulate=4),
        "norm": compared(norm=True, dropout=0.0),
        "norm and dropout": compared(norm=True),
        "norm in parts": normalised_in_parts(),
        "drawn": drawn(),
        "statistics": statistics(),
        **unequal(),
        **scaled(),
        "compiled": compared(kind=CompiledSteps, accumulate=2),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
