"""P6, a whole fine-tuning run with all its logs and checkpoints, against a script without them.

Both sides are whole processes, from the import of TensorFlow to the accuracy on the test set: the
head of a MobileNetV2 for one epoch, then all of it for the rest, on the pictures of the quickstart.
The peer is the script ``keras_fine_tune.py``, which saves and logs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.photographs import ROOT
from benchmarks.rows import LEAST_REPEATS, Row
from benchmarks.whole import MODULE, Ended, Pairs, run_of_harness, run_of_script

DATA = ROOT / "build" / "quickstart"
EPOCHS = 16
TARGET, LEAST_ACCURACY = 1.03, 0.97


def rows() -> Iterator[Row]:
    """Seconds, and the accuracies that both sides come to."""
    pairs = Pairs([], [])
    for seed in range(1, LEAST_REPEATS + 1):
        pairs.ours.append(ours(seed))
        pairs.theirs.append(theirs(seed))
    mine, other = pairs.seconds()
    yield Row(
        id="P6",
        work=f"one epoch of the head and {EPOCHS} of all of MobileNetV2, whole process",
        peer="Model.fit, 30 lines, no log and no checkpoint",
        ours=mine,
        theirs=other,
        target=TARGET,
        better="lower",
        spread=pairs.spread(),
        note=f"779 pictures of 96 px, {LEAST_REPEATS} pairs, seconds",
    )
    mine, other = pairs.accuracies()
    yield Row(
        id="P6",
        work="test accuracy of these models, mean of the seeds",
        peer="Model.fit, 30 lines, no log and no checkpoint",
        ours=mine,
        theirs=other,
        target=LEAST_ACCURACY,
        better="higher",
        spread=pairs.spread_of_accuracy(),
        note=f"{mine:.4f} against {other:.4f}",
    )


def ours(seed: int) -> Ended:
    """A run of the harness as a spec has it that says no more than the script."""
    rates = (1.0e-3, 1.0e-5)
    phases = [
        {"name": "head", "epochs": 1, "learning_rate": rates[0]},
        {"name": "all", "epochs": EPOCHS, "learning_rate": rates[1], "unfreeze": "all"},
    ]
    spec = {
        "harness_spec": 1,
        "name": "fine_tuning",
        "task": "image_classification",
        "backbone": {"handle": f"hub:{MODULE}"},
        "data": {
            "train": str(DATA / "train"),
            "validation": {"fraction": 0.1},
            "test": str(DATA / "test"),
            "image_size": 96,
        },
        "head": {"hidden": [], "dropout": 0.2},
        "training": {"batch_size": 32, "seed": seed, "phases": phases},
    }
    return run_of_harness(spec)[0]


def theirs(seed: int) -> Ended:
    """The peer."""
    words = [str(MODULE), str(DATA / "train"), str(DATA / "test"), str(EPOCHS), str(seed)]
    return run_of_script("keras_fine_tune.py", words)
