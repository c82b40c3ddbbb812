"""Several labels and numbers of texts and recordings, trained for real from manifests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

import harness
from harness.cli.main import main
from tests.local.training_helpers import assert_same_result, call, mischief, write_spec

EACH = 48
RATE_HZ = 8000
ANIMALS = {"cat": ("purrs", "meows", "scratches"), "dog": ("barks", "fetches", "wags")}
FILL = ("the", "animal", "today", "and", "then", "outside")


def part(number: int) -> str:
    return "test" if number // 4 % 4 == 3 else "train"


def write_texts(folder: Path) -> None:
    """Texts of a cat, a dog, both or none; how many words of a cat there are is the number."""
    rows = ["said\tcat\tdog\tcats\tuse"]
    for number in range(EACH):
        draw = np.random.default_rng(number)
        cats, dogs = 3 * (number % 2), 3 * (number // 2 % 2)
        words = [*draw.choice(ANIMALS["cat"], cats), *draw.choice(ANIMALS["dog"], dogs)]
        said = " ".join(draw.permutation([*words, *draw.choice(FILL, 3), str(number)]))
        rows.append(f"{said}\t{min(cats, 1)}\t{min(dogs, 1)}\t{cats}\t{part(number)}")
    (folder / "texts.tsv").write_text("\n".join(rows))


def write_recordings(folder: Path) -> None:
    """A low tone, a high one, both or none, in noise; how loud the low one is is the number."""
    rows = ["file,low,high,level,use"]
    for number in range(EACH):
        draw = np.random.default_rng(number)
        low, high = number % 2, number // 2 % 2
        samples = draw.normal(0, 0.02, int(0.3 * RATE_HZ))
        for there, hertz in ((low, 300), (high, 1500)):
            samples += there * 0.4 * np.sin(2 * np.pi * hertz * np.arange(len(samples)) / RATE_HZ)
        soundfile.write(folder / f"{number:02}.wav", samples, RATE_HZ)
        rows.append(f"{number:02}.wav,{low},{high},{40 * low},{part(number)}")
    (folder / "recordings.csv").write_text("\n".join(rows))


class Medium(NamedTuple):
    """A medium, its manifest and the columns of it."""

    write: Callable[[Path], None]
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


@pytest.fixture(scope="module", params=MEDIA)
def medium(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(its name, the folder of its data, its backbone)"""
    folder = tmp_path_factory.mktemp(request.param)
    MEDIA[request.param].write(folder)
    return request.param, folder, request.getfixturevalue(f"tiny_{request.param}_backbone")


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


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_it_learns_goes_on_and_is_used(
    medium: Any, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, data, _ = medium
    whole = harness.run(spec_of(tmp_path / "a", medium, kind), run_dir=tmp_path / "run", quiet=True)
    # Of guesses an accuracy of 0.5 and an R2 of 0.
    figure, least = ("test_accuracy", 0.8) if kind == "multilabel" else ("test_r2", 0.6)
    assert whole.metrics[figure] >= least, whole.metrics
    killed = spec_of(tmp_path / "b", medium, kind, **mischief(tmp_path / "b", at=40))
    command = ("run", str(killed), "--run-dir", str(tmp_path / "killed"))
    assert call(*command)[0] == -9
    code, _, err = call(*command)
    assert code == 0, err
    assert_same_result(whole.path, tmp_path / "killed")
    capsys.readouterr()
    given = [str(data / f"{number:02}.wav") for number in (3, 7)]
    if name == "text":
        for number, said in enumerate(
            ("the cat purrs meows scratches", "a dog barks wags fetches")
        ):
            (tmp_path / f"{number}.txt").write_text(said)
        given = [str(tmp_path / f"{number}.txt") for number in range(2)]
    assert main(["predict", str(whole.path), *given, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said) == 2
    of = MEDIA[name]
    wanted = set(of.labels) if kind == "multilabel" else {of.number}
    for one in said:
        assert set(one["probabilities" if kind == "multilabel" else "values"]) == wanted
    assert main(["evaluate", str(whole.path), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["metrics"]
    assert measured[figure.removeprefix("test_")] == pytest.approx(whole.metrics[figure], abs=1e-6)
