"""Examples with several labels and with numbers, as a manifest and packed, and specs of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.cli.main import main
from tests.local.training_helpers import CLASSES, write_spec

EACH = 20
KINDS = ("labels", "numbers")
TASK = {"labels": "image_multilabel", "numbers": "image_regression"}
NAMES = {"labels": ["warm", "cold"], "numbers": ["light", "odd"]}


def write_data(folder: Path, write_pictures: Callable[..., Path]) -> Path:
    """Pictures with labels, of which some are uncertain or missing, and with numbers that float32
    does not hold; of patients, and weighed."""
    write_pictures(folder / "pictures", CLASSES, EACH, 16)
    rows = ["file,warm,cold,light,odd,patient,weight,use"]
    for at, name in enumerate(CLASSES):
        for number in range(EACH):
            warm = ("0", "-1", "1")[at] if number % 3 else str(int(at > 1))
            cold = ("1", "0", "")[at] if number % 4 or at == 1 else "-1"
            light, odd = 1e9 + number / 7, "NA" if number % 5 == 0 else repr(number / 3 - at)
            use = "test" if number >= EACH - 5 else "train"
            patient = f"{use}{at}-{number // 2}"
            told = f"{warm},{cold},{light!r},{odd},{patient},{0.5 + number % 3},{use}"
            rows.append(f"pictures/{name}/{number:03d}.png,{told}")
    # Left out before it is looked at: nothing is known of it, in both kinds.
    rows.append("pictures/red/gone.png,-1,,NA,,nobody,1,train")
    (folder / "all.csv").write_text("\n".join(rows))
    return folder


def changes(kind: str, data: Path, **more: Any) -> dict[str, Any]:
    columns = {"labels": NAMES[kind], "group": "patient", "weight": "weight", "split": "use"}
    best = {"best": {"metric": "val_loss"}} if kind == "labels" else {}
    return {
        "task": TASK[kind],
        "data.train": str(data / "all.csv"),
        "data.test": None,
        "data.columns": columns,
        "data.uncertain": {"value": -1, "as": "ignore"} if kind == "labels" else None,
        "data.balance": "none",
        "data.missing": {"file": "drop"},
        "data.augment": {"flip": "horizontal", "mixup": 0.4},
        "training.phases": [{"name": "one", "epochs": 3, "learning_rate": 0.02}],
        "checkpoint": {"every": "10 epochs", **best},
        "logging.every": "1 steps",
    } | more


def from_packed(kind: str, data: Path, sets: Path, **more: Any) -> dict[str, Any]:
    """The same from the sets, whose columns nobody has to name."""
    places = {f"data.{split}": str(sets / split) for split in ("train", "test")}
    return changes(kind, data) | places | {"data.columns": {}} | more


def pack_both(folder: Path, backbone: Path, data: Path) -> dict[str, Path]:
    """For each kind a folder with the sets ``train`` and ``test``, and the specs of both ways."""
    found = {}
    for kind in KINDS:
        found[kind] = folder / kind
        for way in ("manifest", "packed"):
            (folder / kind / way).mkdir(parents=True)
        spec = write_spec(folder / kind / "manifest", backbone, data, **changes(kind, data))
        for split in ("train", "test"):
            place = str(folder / kind / split)
            assert main(["pack", str(spec), place, "--split", split, "--verify"]) == 0
        more = from_packed(kind, data, folder / kind)
        write_spec(folder / kind / "packed", backbone, data, **more)
    return found
