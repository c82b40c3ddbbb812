"""The built wheel, in clean environments: what a user gets who installs it."""

from __future__ import annotations

import json
import os
import subprocess
import venv
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.wheels import LONGEST_S, build_wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist"))


class Clean:
    """An environment that holds the wheel with some extras, and nothing else of ours."""

    def __init__(self, folder: Path, wheel: Path, extras: str) -> None:
        venv.create(folder, with_pip=True)
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.home.mkdir()
        # Not compiled beforehand: of TensorFlow's modules few are ever imported.
        pip = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
        subprocess.run([*pip, f"{wheel}{extras}"], check=True, timeout=LONGEST_S)

    def harness(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Runs the installed command, away from the repository and with no settings."""
        kept = ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
        environment: Mapping[str, str] = {k: os.environ[k] for k in kept if k in os.environ}
        return subprocess.run(
            [str(self.bin / "harness"), *arguments],
            cwd=cwd,
            env={**environment, "HOME": str(self.home), "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )

    def distributions(self) -> set[str]:
        """Names of what is installed."""
        pip = [str(self.bin / "python"), "-m", "pip", "list", "--format=json"]
        done = subprocess.run(pip, check=True, capture_output=True, text=True)
        return {one["name"].lower() for one in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Clean:
    return Clean(tmp_path_factory.mktemp("bare"), wheel, "")


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory,
    write_pictures: Callable[..., Path],
    tiny_backbone: Path,
) -> Path:
    """A folder with pictures and a spec, as a user would have it."""
    folder = tmp_path_factory.mktemp("work")
    write_pictures(folder / "train", ["amber", "blue", "green"], 12)
    write_pictures(folder / "test", ["amber", "blue", "green"], 4)
    (folder / "tiny.yaml").write_text(f"""\
harness_spec: 1
name: tiny
backbone: {{handle: "hub:{tiny_backbone}"}}
data: {{train: train, validation: {{fraction: 0.25}}, test: test, image_size: 32}}
training:
  batch_size: 8
  phases: [{{name: head, epochs: 20, unfreeze: none, learning_rate: 1.0e-1}}]
""")
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"harness"}
    assert "harness/py.typed" in names
    assert "harness/spec/sites/generic.yaml" in names
    assert any(name.endswith("LICENSE") for name in names)


def test_the_bare_one_has_no_tensorflow(bare: Clean) -> None:
    assert not {"tensorflow", "tf-keras", "tf_keras", "pytest"} & bare.distributions()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["validate", "tiny.yaml"], ["plan", "tiny.yaml"], ["schema"], ["list"]],
    ids=lambda arguments: arguments[0],
)
def test_the_bare_one_answers(bare: Clean, work: Path, arguments: list[str]) -> None:
    done = bare.harness(*arguments, cwd=work)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_bare_one_says_what_run_needs(bare: Clean, work: Path) -> None:
    done = bare.harness("run", "tiny.yaml", "--run-dir", "refused", cwd=work)
    assert done.returncode == 3
    assert "harness[train]" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_train_it_trains(
    wheel: Path, work: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    installed = Clean(tmp_path_factory.mktemp("train"), wheel, "[train]")
    assert not {"pytest", "ruff", "mypy"} & installed.distributions()
    done = installed.harness("run", "tiny.yaml", "--run-dir", "run", cwd=work)
    assert done.returncode == 0, done.stderr
    final = json.loads((work / "run" / "run.json").read_text())["final"]
    assert final["test_accuracy"] > 0.5
    picture = "test/blue/000.png"
    done = installed.harness("predict", "run", picture, "--json", cwd=work)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)[0]["probabilities"]) == {"amber", "blue", "green"}
