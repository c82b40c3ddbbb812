"""What the record says of the environment is what other tools say of it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from rights import lacking

from harness.runs import environment
from harness.runs.environment import (
    environment_facts,
    git_diff,
    git_facts,
    imported_versions,
    installed_distributions,
)


def test_imported_versions_are_those_importlib_finds():
    # Slowly, by every line of every RECORD.
    owners = importlib.metadata.packages_distributions()
    imported = {name.partition(".")[0] for name in sys.modules}
    names = {owner for module in imported & owners.keys() for owner in owners[module]}
    found = imported_versions()
    # Before 3.11 importlib looks only at top_level.txt, which newer packages do not have.
    assert names <= set(found) and "pytest" in found
    assert sys.version_info < (3, 11) or set(found) == names
    assert found["pytest"] == pytest.__version__


def test_installed_are_those_pip_would_freeze():
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all"], capture_output=True, text=True
    )
    if frozen.returncode:
        lacking("this environment has no pip: python -m ensurepip")
    mine = {line for line in installed_distributions() if " @ " not in line}
    theirs = {line for line in frozen.stdout.splitlines() if "==" in line and line[0] != "#"}
    same = {normal(line) for line in theirs} ^ {normal(line) for line in mine}
    assert not {line for line in same if not line.startswith("harness")}


def normal(line: str) -> str:
    return line.lower().replace("_", "-").replace(".", "-")


def test_a_distribution_from_a_repository_says_which_commit(tmp_path, monkeypatch):
    for name, origin in {
        "one": '{"url": "file:///w/one.whl"}',
        "two": '{"url": "https://h/two", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
        "three": "{",
    }.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "direct_url.json").write_text(origin)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_distributions() == [
        "one @ file:///w/one.whl",
        "three @ an origin that direct_url.json does not tell",
        "two @ git+https://h/two@abc",
    ]


def test_facts_without_a_folder_leave_git_alone(tmp_path):
    assert "git" not in environment_facts()
    facts = environment_facts(tmp_path)
    assert facts["git"]["commit"] is None
    assert facts["python"] == sys.version.split()[0] and facts["cpus"] >= 1


def test_no_git_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_facts(tmp_path) == {"commit": None, "dirty": None, "why": "git is not installed"}


def test_a_repository_without_a_commit(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    facts = git_facts(tmp_path)
    assert facts["commit"] is None and facts["why"]


def test_a_long_diff_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_git", lambda *_: "x" * (1 << 21))
    text = git_diff(Path(tmp_path))
    assert text.endswith(f"[cut: {1 << 20} more characters]\n") and len(text) < (1 << 20) + 99
