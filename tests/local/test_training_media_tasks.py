"""Several labels and numbers of texts and recordings, trained for real from manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.cli.main import main
from tests.local.media_tasks_helpers import MEDIA, spec_of
from tests.local.training_helpers import assert_same_result, call, mischief


@pytest.fixture(scope="module", params=MEDIA)
def medium(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(its name, the folder of its data, its backbone)"""
    folder = tmp_path_factory.mktemp(request.param)
    MEDIA[request.param].write(folder)
    return request.param, folder, request.getfixturevalue(f"tiny_{request.param}_backbone")


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
