"""P4, the feature cache: a frozen backbone over many epochs, against Keras' ``fit``.

Both sides are whole processes, from the import of TensorFlow to the accuracy on the test set: ours
with all its checkpoints and logs and a cache that is empty at first, the peer the script
``keras_fit.py``.  The peer's start-up is below 2 % of its time at ten epochs.  Takes some three
hours on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import photographs
from benchmarks.rows import Row
from benchmarks.whole import MODULE, Ended, Pairs, run_of_harness, run_of_script

TARGETS = {1: 1.1, 5: 4.0, 10: 8.0, 20: 12.0}
"""By epochs: of one how much longer than the peer, of more how many times faster."""
PAIRS = {1: 1, 5: 1, 10: 5, 20: 1}
LEAST_ACCURACY = 0.99
"""Of the peer's: 0.01 of an accuracy near 1."""


def rows() -> Iterator[Row]:
    """Runs a second, and the accuracy of those with ten epochs."""
    train, test = photographs.squares(10_000), photographs.squares(1_000, seed=1)
    for epochs, target in TARGETS.items():
        pairs = Pairs([], [])
        for seed in range(1, PAIRS[epochs] + 1):
            pairs.ours.append(ours(train, test, epochs, seed))
            pairs.theirs.append(theirs(train, test, epochs, seed))
        longer = epochs == 1
        times = pairs.seconds()
        yield Row(
            id="P4",
            work=f"a head on a frozen MobileNetV2, {epochs} epochs, whole process",
            peer="Model.fit through hub.KerasLayer",
            ours=times[0] if longer else 1 / times[0],
            theirs=times[1] if longer else 1 / times[1],
            target=target,
            better="lower" if longer else "higher",
            spread=pairs.spread(),
            note=f"10,000 pictures of 224 px, {PAIRS[epochs]} pairs, "
            + ("seconds" if longer else "runs a second"),
        )
        if epochs == 10:
            yield _accuracy(pairs)


def _accuracy(pairs: Pairs) -> Row:
    found = pairs.accuracies()
    return Row(
        id="P4",
        work="test accuracy of these heads at 10 epochs, mean of the seeds",
        peer="Model.fit through hub.KerasLayer",
        ours=found[0],
        theirs=found[1],
        target=LEAST_ACCURACY,
        better="higher",
        spread=pairs.spread_of_accuracy(),
        note=f"{found[0]:.4f} against {found[1]:.4f}",
    )


def ours(train: Path, test: Path, epochs: int, seed: int) -> Ended:
    """A run of the harness with an empty cache."""
    spec = {
        "harness_spec": 1,
        "name": "features",
        "task": "image_classification",
        "backbone": {"handle": f"hub:{MODULE}"},
        "data": {
            "train": str(train),
            "validation": {"fraction": 0.1},
            "test": str(test),
            "image_size": 224,
        },
        "head": {"hidden": [], "dropout": 0.2},
        "training": {
            "batch_size": 32,
            "seed": seed,
            "phases": [{"name": "head", "epochs": epochs, "learning_rate": 1e-3}],
        },
    }
    ended, record = run_of_harness(spec)
    if set(record["feature_cache"]) != {"train", "validation", "test"} and epochs > 1:
        raise AssertionError(f"the features were not cached: {record['feature_cache']}")
    return ended


def theirs(train: Path, test: Path, epochs: int, seed: int) -> Ended:
    """The peer."""
    words = [str(MODULE), str(train), str(test), str(epochs), str(seed)]
    return run_of_script("keras_fit.py", words)
