"""Texts and recordings with several labels and with numbers, as manifests, and specs of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from tests.local.training_helpers import write_spec

EACH = 48
RATE_HZ = 8000
ANIMALS = {"cat": ("purrs", "meows", "scratches"), "dog": ("barks", "fetches", "wags")}
FILL = ("the", "animal", "today", "and", "then", "outside")


def part(number: int) -> str:
    return "test" if number // 4 % 4 == 3 else "train"


def cells(values: tuple[Any, ...], number: int, gaps: int) -> tuple[Any, ...]:
    """The values, of which one is missing in every so many rows; 0 for in none."""
    if not gaps or number % gaps:
        return values
    gone = number // gaps % len(values)
    return tuple("NA" if at == gone else value for at, value in enumerate(values))


def write_texts(folder: Path, gaps: int = 0) -> None:
    """Texts of a cat, a dog, both or none; how many words of a cat there are is the number."""
    rows = ["said\tcat\tdog\tcats\tuse"]
    for number in range(EACH):
        draw = np.random.default_rng(number)
        cats, dogs = 3 * (number % 2), 3 * (number // 2 % 2)
        words = [*draw.choice(ANIMALS["cat"], cats), *draw.choice(ANIMALS["dog"], dogs)]
        said = " ".join(draw.permutation([*words, *draw.choice(FILL, 3), str(number)]))
        cat, dog = cells((min(cats, 1), min(dogs, 1)), number, gaps)
        rows.append(f"{said}\t{cat}\t{dog}\t{cats}\t{part(number)}")
    (folder / "texts.tsv").write_text("\n".join(rows))


def write_recordings(folder: Path, gaps: int = 0) -> None:
    """A low tone, a high one, both or none, in noise; how loud the low one is is the number."""
    rows = ["file,low,high,level,use"]
    for number in range(EACH):
        draw = np.random.default_rng(number)
        low, high = number % 2, number // 2 % 2
        samples = draw.normal(0, 0.02, int(0.3 * RATE_HZ))
        for there, hertz in ((low, 300), (high, 1500)):
            samples += there * 0.4 * np.sin(2 * np.pi * hertz * np.arange(len(samples)) / RATE_HZ)
        soundfile.write(folder / f"{number:02}.wav", samples, RATE_HZ)
        level, (low, high) = 40 * low, cells((low, high), number, gaps)
        rows.append(f"{number:02}.wav,{low},{high},{level},{part(number)}")
    (folder / "recordings.csv").write_text("\n".join(rows))


class Medium(NamedTuple):
    """A medium, its manifest and the columns of it."""

    write: Callable[..., None]
    manifest: str
    columns: dict[str, str]
    labels: tuple[str, str]
    number: str
    given: dict[str, Any]


MEDIA = {
    "text": Medium(write_texts, "texts.tsv", {"text": "said"}, ("cat", "dog"), "cats", {}),
    "audio": Medium(
        write_recordings,
        "recordings.csv",
        {},
        ("low", "high"),
        "level",
        {"data.audio": {"rate_hz": RATE_HZ, "seconds": 0.3}},
    ),
}


def spec_of(folder: Path, medium: Any, kind: str, **changes: Any) -> Path:
    name, data, backbone = medium
    of = MEDIA[name]
    targets = {"labels": list(of.labels)} if kind == "multilabel" else {"label": of.number}
    folder.mkdir(exist_ok=True)
    changes = {
        "task": f"{name}_{kind}",
        "data.train": str(data / of.manifest),
        "data.test": None,
        "data.validation": None,
        "data.columns": {**of.columns, **targets, "split": "use"},
        "data.image_size": None,
        "data.augment": {},
        "data.balance": "none",
        "head": {"dropout": 0.1},
        "checkpoint.best": {"metric": "loss"},
        "training.phases": [{"name": "one", "epochs": 25, "learning_rate": 0.05}],
        **of.given,
    } | changes
    return write_spec(folder, backbone, data, **changes)
