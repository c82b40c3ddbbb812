"""The templates of slurm/: sound shell, options explained, the same where they are the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rights import lacking

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "slurm").glob("*.sbatch"))
TRAINING = [path for path in TEMPLATES if path.stem not in ("pack", "tensorboard")]
SEVERAL = [path for path in TRAINING if path.stem in ("horovod", "multi_node")]
"""Those of several processes."""
NAMES = [path.stem for path in TEMPLATES]
each = pytest.mark.parametrize("template", TEMPLATES, ids=NAMES)
each_training = pytest.mark.parametrize("template", TRAINING, ids=lambda path: path.stem)

# Long options of sbatch that the templates may use, and what their values look like.
OPTIONS = {
    "account": r"\w+",
    "array": r"[\d,%-]+",
    "cpus-per-task": r"\d+",
    "gres": r"gpu(:\w+)?:\d+",
    "job-name": r"[\w-]+",
    "mem": r"\d+[GM]",
    "no-requeue": None,
    "nodes": r"\d+",
    "ntasks": r"\d+",
    "ntasks-per-node": r"\d+",
    "open-mode": "append",
    "output": r"%x-(%j|%A_%a)\.out",
    "partition": r"\w+",
    "requeue": None,
    "signal": "B:USR2@120",
    "time": r"\d\d:\d\d:\d\d",
}

# What bash 4.2, which old clusters have, does not know.
LATER = (
    r"wait -[nfp]|\$\{\w+@\w\}|mapfile -d|(?:declare|local) -n|\bEPOCH|BASH_ARGV0|inherit_errexit"
)


def options(template: Path) -> dict[str, str | None]:
    """Options of the ``#SBATCH`` lines, those that are switched off as well."""
    found = re.findall(r"^#{1,2}SBATCH (.*)$", template.read_text(), re.MULTILINE)
    pairs = [re.fullmatch(r"--([a-z-]+)(?:=(\S+))?", line) for line in found]
    assert all(pairs), found
    return {pair[1]: pair[2] for pair in pairs if pair}


def block(template: Path, name: str) -> str:
    """What stands between the two marks of a block."""
    pattern = rf"^# ---- {name}(?::| ).*?^# ---- end of {name} -+$"
    found = re.findall(pattern, template.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{template.name} has {len(found)} blocks {name!r}"
    return found[0]


def test_there_are_the_templates_that_the_tables_name() -> None:
    assert NAMES == [
        "array",
        "cpu",
        "horovod",
        "multi_gpu",
        "multi_node",
        "pack",
        "single_gpu",
        "tensorboard",
    ]
    for page in (ROOT / "slurm" / "README.md", ROOT / "docs" / "templates.md"):
        assert sorted(re.findall(r"^\| `(\w+)\.sbatch` \|", page.read_text(), re.M)) == NAMES


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        lacking("shellcheck is not installed; next: sudo .ci/system-packages scripts")
    done = subprocess.run(["shellcheck", *TEMPLATES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@each
def test_options_are_those_of_sbatch(template: Path) -> None:
    for option, value in options(template).items():
        assert option in OPTIONS
        assert (value is None) is (OPTIONS[option] is None), option
        assert value is None or re.fullmatch(str(OPTIONS[option]), value), f"{option}={value}"


@each_training
def test_a_training_can_go_on(template: Path) -> None:
    wanted = {"requeue": None, "open-mode": "append", "signal": "B:USR2@120"}
    if template not in SEVERAL:
        wanted["ntasks"] = "1"
    assert wanted.items() <= options(template).items()


@pytest.mark.parametrize("template", SEVERAL, ids=lambda path: path.stem)
def test_several_processes_know_one_another_by_a_secret(template: Path) -> None:
    """And as many are asked for as the script starts: one for each GPU."""
    found = options(template)
    assert found["gres"] == f"gpu:{found['ntasks-per-node']}"
    assert int(found["nodes"] or 0) > 1
    secret, _, start = template.read_text().partition("export HARNESS_GANG_SECRET")
    assert "HARNESS_GANG_SECRET=$(od -An -N16 -tx1 /dev/urandom" in secret
    assert "srun " in start


def test_those_of_several_processes_differ_in_the_strategy_alone() -> None:
    """And in what they say of it."""
    names = r"multi_node|horovod"
    kinds = set()
    for template in SEVERAL:
        text = re.sub(r"cluster\.strategy=\w+", "cluster.strategy=", template.read_text())
        text = re.sub(names, "NAME", text)
        kinds.add("\n".join(x for x in text.splitlines() if not re.match(r"#(?!SBATCH)", x)))
    assert len(kinds) == 1


@each
def test_sbatch_reads_all_options_and_each_is_explained(template: Path) -> None:
    """sbatch stops reading options at the first command; a paragraph of them begins with words."""
    head, _, body = template.read_text().partition("\nusage=")
    assert head.startswith("#!/bin/bash\n")
    assert not re.search(r"^#+SBATCH", body, re.MULTILINE)
    for paragraph in head.split("\n\n"):
        assert all(line.startswith("#") for line in paragraph.splitlines())
        if "SBATCH --" in paragraph:
            assert re.match(r"# [A-Z]", paragraph), paragraph
    assert f"sbatch {template.name} " in head
    assert options(template)["job-name"] == template.stem


@pytest.mark.parametrize("name", ["start", "going on"])
def test_what_nobody_has_to_change_is_the_same_in_all(name: str) -> None:
    assert len({block(template, name) for template in TRAINING}) == 1


def test_the_environment_is_set_up_alike_in_all() -> None:
    assert len({block(template, "your environment") for template in TEMPLATES}) == 1


@each
def test_old_bash_understands_it(template: Path) -> None:
    assert not re.findall(LATER, template.read_text())
    for line in template.read_text().splitlines():
        assert len(line) <= 100, line


def run(template: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", template, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@each
def test_started_by_hand_it_names_sbatch(template: Path) -> None:
    code, said = run(template, "spec.yaml")
    assert code == 2
    assert "this file is for sbatch" in said
    assert f"usage: sbatch {template.name} " in said


@each
@pytest.mark.parametrize("arguments", [(), ("",), ("--time=10:00", "spec.yaml")], ids=len)
def test_without_its_argument_it_says_how_to_use_it(
    template: Path, arguments: tuple[str, ...]
) -> None:
    code, said = run(template, *arguments, SLURM_JOB_ID="1")
    assert code == 2
    assert f"usage: sbatch {template.name} " in said
