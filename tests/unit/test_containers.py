"""The recipes of the image: one list makes both, they are linted, and hold nothing of a user."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness
from containers import render
from tests.unit.rights import lacking

ROOT = Path(__file__).resolve().parents[2]
RECIPE = render.read_recipe()
SECTIONS = {"arguments", "labels", "environment", "files", "post"}


def run_bodies() -> list[str]:
    """The shell commands of each RUN of the committed Dockerfile, as the shell sees them."""
    text = re.sub(r"^#.*\n", "", render.DOCKERFILE.read_text(), flags=re.MULTILINE)
    joined = text.replace("\\\n", " ")
    return [line.removeprefix("RUN ") for line in joined.splitlines() if line.startswith("RUN ")]


def sections() -> dict[str, list[str]]:
    """The sections of the committed definition file, and its head under an empty name."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in render.DEFINITION.read_text().splitlines():
        if line.startswith("%"):
            name = line[1:]
            assert name not in found, "every section stands once"
            found[name] = []
        else:
            found[name].append(line)
    return found


def test_the_committed_recipes_are_what_the_list_renders() -> None:
    command = [sys.executable, "containers/render.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}next: python containers/render.py"


def test_a_difference_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "Dockerfile"
    changed.write_text(render.DOCKERFILE.read_text() + "RUN true\n")
    monkeypatch.setattr(render, "DOCKERFILE", changed)
    monkeypatch.setattr(sys, "argv", ["render.py", "--check"])
    assert render.main() == 1
    monkeypatch.setattr(sys, "argv", ["render.py"])
    assert render.main() == 0
    assert changed.read_text() == render.DOCKERFILE.read_text() == render.dockerfile(RECIPE)


def test_both_recipes_run_the_same_commands() -> None:
    docker = [word for body in run_bodies() for word in shlex.split(body) if word != "&&"]
    post = "\n".join(sections()["post"]).replace("\\\n", " ")
    apptainer = shlex.split(post, comments=True)
    # Before the first step the definition sets what a Dockerfile says with ENV and ARG.
    start = apptainer.index("apt-get")
    assert apptainer[start:] == docker
    assert {"set", "-eu", "LANG=C.UTF-8", "GPU={{ GPU }}"} <= set(apptainer[:start])


def test_the_definition_has_the_sections_that_apptainer_knows() -> None:
    found = sections()
    assert set(found) == {"", *SECTIONS}
    head = [line for line in found[""] if line and not line.startswith("#")]
    assert head == ["Bootstrap: docker", "From: {{ BASE }}"]
    arguments = dict(line.strip().split("=", 1) for line in found["arguments"] if line.strip())
    used = set(re.findall(r"\{\{ (\w+) \}\}", render.DEFINITION.read_text()))
    assert set(arguments) == used == {one.name for one in RECIPE.arguments}
    assert all(one.value for one in RECIPE.arguments), "an empty default is read differently"
    for line in found["files"]:
        source, _, target = line.strip().partition(" ")
        assert not source or ((ROOT / source).exists() and target == f"/context/{source}")


def test_the_labels_name_the_version() -> None:
    assert RECIPE.labels[render.VERSION] == harness.__version__
    for file in (render.DOCKERFILE, render.DEFINITION):
        assert harness.__version__ in file.read_text()


def test_a_build_sees_nothing_but_what_the_recipe_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert allowed == list(RECIPE.context)
    rules = [line for line in lines if line and not line.startswith(("!", "#"))]
    assert rules[0] == "*", "all else is left out"
    copied = re.findall(r"^(?:COPY|ADD) (.*)$", render.DOCKERFILE.read_text(), re.MULTILINE)
    sources = [word for line in copied for word in line.split()[:-1]]
    assert sources == list(RECIPE.context)
    assert "rm -rf /context" in run_bodies()[-1], "not even that stays"


def test_the_image_sets_no_cache_and_starts_nothing() -> None:
    text = render.DOCKERFILE.read_text()
    # A rank is started by srun in words of its own, and a cache of the image could not be written.
    assert not re.search(r"^(ENTRYPOINT|CMD|USER|WORKDIR|VOLUME)\b", text, re.MULTILINE)
    assert not any("HARNESS_CACHE" in name for name in RECIPE.environment)


@pytest.mark.parametrize("kind", ["docker", "apptainer"])
def test_shellcheck_finds_nothing(kind: str) -> None:
    if shutil.which("shellcheck") is None:
        lacking("no shellcheck; next: sudo .ci/system-packages scripts")
    post = "\n".join(sections()["post"])
    bodies = run_bodies() if kind == "docker" else [post]
    # These are set by ENV and ARG, not in the body itself.
    names = " ".join([one.name for one in RECIPE.arguments] + list(RECIPE.environment))
    for body in bodies:
        text = f"#!/bin/sh\nexport {names}\n{body}\n"
        done = subprocess.run(
            ["shellcheck", "--shell=sh", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing() -> None:
    command = Path(sys.executable).with_name("hadolint")
    if not command.exists():
        lacking("hadolint is not installed; next: make lint")
    # The versions of system packages are those of the base image's release.
    words = [str(command), "--no-color", "--ignore", "DL3008", str(render.DOCKERFILE)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


words = st.lists(
    st.text(st.sampled_from("abcdefghij/-=.$"), min_size=1, max_size=40), min_size=1, max_size=30
)


@given(words, st.integers(0, 30))
def test_a_long_command_is_broken_without_changing_it(parts: list[str], where: int) -> None:
    quoted = [*parts[:where], "'two words of text'", *parts[where:]]
    command = " ".join(quoted)
    lines = render._continued(command)
    assert shlex.split(lines.replace("\\\n", " ")) == shlex.split(command)
    assert all(len(line) <= 110 for line in lines.splitlines())
