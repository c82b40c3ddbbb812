"""Imports go only downward through the rooms, and the first answers need no TensorFlow."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "tf_keras", "keras", "numpy", "tensorflow_hub")
ROOMS = [
    "cli", "launch", "worker", "train", "deploy | observe | checkpoint", "model", "data",
    "distribute", "runs", "spec", "plugins", "tracing", "errors",
]  # fmt: skip

# Runs the command line in-process and then says what it has imported.
WATCHED = """
import json, sys
from harness.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as left:
    code = left.code
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


@pytest.fixture
def spec_file(tmp_path: Path, write_pictures: Callable[..., Path]) -> Path:
    """A valid spec whose data and backbone are there, as far as validate looks."""
    write_pictures(tmp_path / "train", ["amber", "blue"], 4, side=8)
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "saved_model.pb").touch()
    file = tmp_path / "spec.yaml"
    text = "harness_spec: 1\nname: tiny\nbackbone: {handle: 'hub:module'}\n"
    file.write_text(text + "data: {train: train, validation: {fraction: 0.25}}\n")
    return file


def watched(*arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], capture_output=True, text=True, check=False
    )
    return json.loads(done.stderr.strip().splitlines()[-1])


def test_the_contract_is_the_one_of_the_architecture() -> None:
    config = configparser.RawConfigParser()
    config.read(ROOT / "setup.cfg")
    layers = config["importlinter:contract:rooms"]["layers"].split("\n")
    assert [layer for layer in layers if layer] == ROOMS


def test_every_contract_is_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", "setup.cfg", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, harness; print([m for m in sys.modules if m in sys.argv[1:]])"
    command = [sys.executable, "-c", code, *HEAVY, "pydantic", "ruamel"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_imports_neither_tensorflow_nor_pydantic() -> None:
    seen = watched("--help")
    assert seen["code"] == 0
    assert not {*HEAVY, "pydantic", "rich"} & set(seen["modules"])


def test_validate_imports_no_tensorflow(spec_file: Path) -> None:
    seen = watched("validate", str(spec_file))
    assert seen["code"] == 0
    assert "pydantic" in seen["modules"]
    assert not set(HEAVY) & set(seen["modules"])


def test_checkpoints_needs_neither_tensorflow_nor_numpy(tmp_path: Path) -> None:
    """Verifying and rolling back are for login nodes too."""
    from harness.checkpoint import Store
    from harness.runs.paths import RunPaths
    from harness.runs.record import write_record

    paths = RunPaths.create(tmp_path / "run", "private")
    write_record(paths, {"run_id": "x", "name": "tiny"})
    store = Store(paths.checkpoints, keep=3, access="private", log=print)
    for step in (5, 10):
        store.save(step, {}, {"position": {"step": step}})
    for words in (["--verify"], ["--roll-back", "5"], ["--bring-back"], []):
        seen = watched("checkpoints", str(paths.root), *words)
        assert seen["code"] == 0
        assert not set(HEAVY) & set(seen["modules"])
