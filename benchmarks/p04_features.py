"""P4, the feature cache: a frozen backbone over many epochs, against Keras' ``fit``.

Both sides are whole processes, from the import of TensorFlow to the accuracy on the test set: ours
with all its checkpoints and logs and a cache that is empty at first, the peer the script
``keras_fit.py``.  The peer's start-up is below 2 % of its time at ten epochs.  Takes some three
hours on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import photographs
from benchmarks.rows import Row

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "build" / "quickstart" / "backbone" / "mobilenet_v2"
TARGETS = {1: 1.1, 5: 4.0, 10: 8.0, 20: 12.0}
"""By epochs: of one how much longer than the peer, of more how many times faster."""
PAIRS = {1: 1, 5: 1, 10: 5, 20: 1}
LEAST_ACCURACY = 0.99
"""Of the peer's: 0.01 of an accuracy near 1."""


def rows() -> Iterator[Row]:
    """Runs a second, and the accuracy of those with ten epochs."""
    train, test = photographs.squares(10_000), photographs.squares(1_000, seed=1)
    for epochs, target in TARGETS.items():
        pairs = [_pair(train, test, epochs, seed) for seed in range(1, PAIRS[epochs] + 1)]
        ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        longer = epochs == 1
        times = [statistics.median(one[0] for one in each) for each in (ours, theirs)]
        spread = max(
            (max(t) - min(t)) / statistics.median(t)
            for t in ([one[0] for one in each] for each in (ours, theirs))
        )
        yield Row(
            id="P4",
            work=f"a head on a frozen MobileNetV2, {epochs} epochs, whole process",
            peer="Model.fit through hub.KerasLayer",
            ours=times[0] if longer else 1 / times[0],
            theirs=times[1] if longer else 1 / times[1],
            target=target,
            better="lower" if longer else "higher",
            spread=spread,
            note=f"10,000 pictures of 224 px, {PAIRS[epochs]} pairs, "
            + ("seconds" if longer else "runs a second"),
        )
        if epochs == 10:
            yield _accuracy(*([one[1] for one in each] for each in (ours, theirs)))


def _accuracy(ours: list[float], theirs: list[float]) -> Row:
    return Row(
        id="P4",
        work="test accuracy of these heads at 10 epochs, mean of the seeds",
        peer="Model.fit through hub.KerasLayer",
        ours=statistics.mean(ours),
        theirs=statistics.mean(theirs),
        target=LEAST_ACCURACY,
        better="higher",
        spread=max(max(each) - min(each) for each in (ours, theirs)),
        note=f"{statistics.mean(ours):.4f} against {statistics.mean(theirs):.4f}",
    )


def _pair(
    train: Path, test: Path, epochs: int, seed: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(seconds, accuracy) of ours and of the peer, one after the other."""
    return ours(train, test, epochs, seed), theirs(train, test, epochs, seed)


def ours(train: Path, test: Path, epochs: int, seed: int) -> tuple[float, float]:
    """Seconds and test accuracy of a run of the harness with an empty cache."""
    folder = Path(tempfile.mkdtemp(dir=photographs.FOLDER))
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
    (folder / "spec.yaml").write_text(json.dumps(spec))  # JSON is YAML
    command = [sys.executable, "-m", "harness", "run", str(folder / "spec.yaml")]
    environment = {**os.environ, "HARNESS_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    try:
        took = _took([*command, "--run-dir", str(folder / "run"), "--quiet"], environment)[0]
        record = json.loads((folder / "run" / "run.json").read_text())
        if set(record["feature_cache"]) != {"train", "validation", "test"} and epochs > 1:
            raise AssertionError(f"the features were not cached: {record['feature_cache']}")
        return took, float(record["final"]["test_accuracy"])
    finally:
        shutil.rmtree(folder)


def theirs(train: Path, test: Path, epochs: int, seed: int) -> tuple[float, float]:
    """Seconds and test accuracy of the peer."""
    script = Path(__file__).with_name("keras_fit.py")
    words = [str(MODULE), str(train), str(test), str(epochs), str(seed)]
    took, said = _took([sys.executable, str(script), *words], dict(os.environ))
    return took, float(said.split()[-1])


def _took(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603 - ours
    if done.returncode:
        raise AssertionError(f"{command[1]} ended with {done.returncode}:\n{done.stderr}")
    return time.perf_counter() - begun, done.stdout
