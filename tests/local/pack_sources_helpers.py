"""A manifest with weights, groups and splits, and packed sets of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from tests.local.training_helpers import CLASSES, write_spec

EACH = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    """Pictures of patients who are in several classes, weighed, two rows with something missing."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "pictures", CLASSES, EACH, 16)
    rows = ["picture,colour,patient,weight,use"]
    for at, label in enumerate(CLASSES):
        for number in range(EACH):
            use = "test" if number >= EACH - 4 else "train"
            patient = f"t{number}" if use == "test" else f"p{(number + at) // 2}"
            name = f"pictures/{label}/{number:03d}.png"
            rows.append(f"{name},{label},{patient},{0.5 + number % 3},{use}")
    rows[1] = rows[1].replace(",blue,", ",,")
    rows[2] = rows[2].replace(",1.5,", ",NA,")
    (folder / "all.csv").write_text("\n".join(rows))
    return folder


def spec_of(folder: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    columns = {"path": "picture", "label": "colour", "group": "patient", "weight": "weight"}
    changes = {
        "data.train": str(data / "all.csv"),
        "data.test": None,
        "data.columns": columns | {"split": "use"},
        "training.phases": [{"name": "one", "epochs": 2, "learning_rate": 0.02}],
    } | changes
    return write_spec(folder, backbone, data, **changes)


@pytest.fixture(scope="module")
def packed(data: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training and test rows, packed by the verb."""
    folder = tmp_path_factory.mktemp("packed")
    spec = spec_of(folder, tiny_backbone, data)
    for split in ("train", "test"):
        assert main(["pack", str(spec), str(folder / split), "--split", split]) == 0
    return folder
