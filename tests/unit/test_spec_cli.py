"""`harness validate` and `harness schema`: output, exit codes, what they import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from spec_helpers import MINIMAL_YAML, write

from harness.cli.main import main

HEAVY = ("tensorflow", "tf_keras", "keras", "numpy", "tensorflow_hub", "rich", "submitit")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A valid spec whose data, backbone and plug-in are there."""
    (tmp_path / "train").mkdir()
    (tmp_path / "module").mkdir()
    write(tmp_path / "module", b"", "saved_model.pb")
    write(tmp_path, "VALUE = 1\n", "mine.py").chmod(0o644)
    return write(
        tmp_path,
        "harness_spec: 1\nname: good\nbackbone: {handle: module}\ndata: {train: train}\n"
        "plugins: [./mine.py]\n",
    )


def test_a_valid_spec(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(job)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{job}: valid\n")
    assert "good" in shown.out
    assert shown.err == ""


def test_a_valid_spec_as_json(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(job), "--json", "-o", "name=other"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["ok"], facts["name"], facts["problems"]) == (True, "other", [])
    assert len(facts["digest"]) == 64


def test_an_invalid_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = write(tmp_path, MINIMAL_YAML + "training: {sed: 1}\nhead: {dropout: 3}\n")
    assert main(["validate", str(job)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0].startswith(f"{job}:4: data.train: does not exist")
    assert lines[1].startswith(f"{job}:5: training.sed: unknown key")
    assert lines[2].startswith(f"{job}:6: head.dropout: is out of range, got 3")
    assert lines[-1] == f"{job}: 3 problems"
    assert main(["validate", str(job), "--json"]) == 2
    facts = json.loads(capsys.readouterr().out)
    assert [(p["line"], p["path"]) for p in facts["problems"]] == [
        (4, "data.train"),
        (5, "training.sed"),
        (6, "head.dropout"),
    ]
    assert not facts["ok"]


def test_missing_files_are_problems_with_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path, "", "a_file")
    job = write(
        tmp_path,
        "harness_spec: 1\nname: x\nbackbone:\n  handle: hub:empty\ndata:\n  train: none/train\n"
        "  validation: a_file\nplugins: [none.py, no-such-entry]\n",
    )
    assert main(["validate", str(job), "--json", "-o", "data.test=/nowhere/gone"]) == 2
    found = json.loads(capsys.readouterr().out)["problems"]
    assert [(p["file"], p["line"], p["path"], p["what"]) for p in found] == [
        (str(job), 4, "backbone.handle", "is no SavedModel"),
        (str(job), 6, "data.train", "does not exist"),
        (str(job), 7, "data.validation", "is not a folder"),
        (str(job), 8, "plugins", "a plug-in cannot be read: there is no such file"),
        (str(job), 8, "plugins", "there is no such entry point"),
        ("-o data.test=/nowhere/gone", None, "data.test", "does not exist"),
    ]
    assert all(p["action"] for p in found)


@pytest.mark.parametrize("handle", ["hub:encoder", "model:own.h5"])
def test_a_preprocessor_is_looked_for_too(
    handle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("encoder", "before", "train"):
        (tmp_path / name).mkdir()
    write(tmp_path / "encoder", "", "saved_model.pb")
    write(tmp_path, "", "own.h5")
    job = write(
        tmp_path,
        "harness_spec: 1\nname: x\ntask: text_classification\nbackbone:\n"
        f"  handle: {handle}\n  preprocessor: hub:before\ndata: {{train: train}}\n",
    )
    assert main(["validate", str(job), "--json"]) == 2
    (found,) = json.loads(capsys.readouterr().out)["problems"]
    assert (found["line"], found["path"]) == (6, "backbone.preprocessor")
    assert found["what"] == "is no SavedModel"
    write(tmp_path / "before", "", "saved_model.pb")
    main(["validate", str(job), "--json"])
    assert "backbone.preprocessor" not in capsys.readouterr().out


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["name"]["description"].startswith("Name of the job")


def test_the_doc_of_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--field", "training.phases.0.epochs"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("training.phases[].epochs\n")
    assert "Passes over the training examples." in shown
    assert "extend" in shown
    assert main(["schema", "--field", "training.optimizer"]) == 0
    assert "weight_decay" in capsys.readouterr().out
    assert main(["schema", "--field", "training.seed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["default"] == "1"


def test_an_unknown_field_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--field", "training.sed"]) == 2
    assert "training.seed" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["validate", "JOB"], ["schema"]])
def test_no_heavy_import(job: Path, verb: list[str]) -> None:
    arguments = [str(job) if word == "JOB" else word for word in verb]
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        f"code = main({arguments!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_importing_the_room_imports_no_validator() -> None:
    code = (
        "import sys, harness.spec; sys.exit('pydantic' in sys.modules or 'ruamel' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_validate_names_missing_files_beside_other_mistakes(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "five.yaml").write_text(
        "harness_spec: 1\n"
        "name: five\n"
        "backbone: {handle: 'hub:model'}\n"
        "data:\n"
        "  train: nowhere\n"
        "  image_sise: 96\n"
        "training:\n"
        "  batch_size: many\n"
        "logging: {every: 5 parsecs}\n"
    )
    assert main(["validate", str(tmp_path / "five.yaml")]) == 2
    err = capsys.readouterr().err
    for line, words in (
        (3, "is no SavedModel"),
        (5, "does not exist"),
        (6, "unknown key"),
        (8, "wrong type"),
        (9, "unknown unit"),
    ):
        assert any(f"five.yaml:{line}: " in row and words in row for row in err.splitlines()), err
    assert "5 problems" in err
