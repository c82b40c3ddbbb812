"""The batch script, compared whole with golden files, and what of a spec it must not execute."""

from __future__ import annotations

import difflib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SpecError, UsageError
from harness.launch.executors import RunSlurmExecutor
from harness.launch.request import Request
from harness.launch.script import parameters, step_command
from harness.launch.slurm import Slurm, slurm_variables
from harness.launch.submit import dry_run
from harness.runs.paths import RunPaths
from harness.spec import load_site, load_spec
from tests.unit.rights import lacking

GOLDEN = Path(__file__).with_name("golden")
PYTHON = "/opt/python/bin/python"
RUN = "/runs/textures/20261124-120000-abcd"
SPEC: dict[str, Any] = {
    "harness_spec": 1,
    "name": "textures",
    "backbone": {"handle": "hub:/models/m"},
    "data": {"train": "/data/train", "validation": {"fraction": 0.1}},
    "training": {"phases": [{"name": "head", "epochs": 5}]},
}
CASES: dict[str, dict[str, Any]] = {
    "least": {},
    "gpu": {
        "gpus_per_node": 1,
        "gpu_type": "a100",
        "cpus_per_gpu": 12,
        "mem_gb": 64,
        "time": "1-02:30:00",
        "time_floor": "4:00:00",
        "partition": "gpu",
        "account": "def-somebody",
        "qos": "normal",
        "constraint": "a100&nvlink",
        "sbatch": {
            "mail-type": "END,FAIL",
            "comment": "it's a 'test' of $(quotes)",
            "exclusive": True,
            "oversubscribe": False,
            "nice": 100,
        },
    },
    "chain": {"continue_by": "chain", "max_attempts": 8, "time": "0:02:00"},
    "two_nodes": {
        "nodes": 2,
        "ranks_per_node": 2,
        "strategy": "horovod",
        "device": "cpu",
        "cpus_per_rank": 1,
    },
    "by_hand": {"continue_by": "none", "signal_lead_s": 300, "time": "2:00:00"},
    "container": {
        "gpus_per_node": 4,
        "container": {
            "image": "/images/harness 0.1.sif",
            "runtime": "apptainer",
            "binds": ["/reference", "/models"],
        },
    },
}


def script(monkeypatch: pytest.MonkeyPatch, cluster: dict[str, Any], **more: Any) -> str:
    monkeypatch.setattr(sys, "executable", PYTHON)
    resolved = load_spec({**SPEC, "cluster": cluster, **more})
    return dry_run(resolved, Path(RUN), None)


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_golden_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never rewritten by a test: read the difference, then change the file by hand."""
    made = script(monkeypatch, CASES[name])
    golden = GOLDEN / f"{name}.sbatch"
    wanted = golden.read_text()
    difference = difflib.unified_diff(
        wanted.splitlines(), made.splitlines(), str(golden), "made", lineterm=""
    )
    assert made == wanted, "\n".join(difference)


def test_a_site_with_modules_and_a_venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "here.yaml"
    site.write_text(
        "name: here\n"
        "environment: {modules: [python/3.11, cuda], venv: /project/venv, "
        "variables: {A: 'b c'}}\n"
    )
    made = script(monkeypatch, {"site": str(site)})
    assert PYTHON not in made, "the Python that submits must not be taken by accident"
    for line in ("export A='b c'", "python/3.11", "/project/venv"):
        assert line in made


@pytest.mark.parametrize("name", CASES)
def test_bash_can_read_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = script(monkeypatch, CASES[name])
    subprocess.run(["bash", "-n"], input=made, text=True, check=True)


@pytest.mark.parametrize("name", CASES)
def test_shellcheck_finds_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("shellcheck") is None:
        lacking("no shellcheck; next: sudo .ci/system-packages scripts")
    made = script(monkeypatch, CASES[name])
    words = ["shellcheck", "--shell=bash", "-"]
    done = subprocess.run(words, input=made, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_local_site_has_no_script(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no batch script"):
        script(monkeypatch, {"site": "local"})


CANARY = "$(touch canary) `touch canary` ; touch canary & | > canary '\""


def executed(text: str, folder: Path) -> bool:
    """Runs a script with every command of SLURM and every Python missing; whether it sang."""
    (folder / "job.sh").write_text(text)
    subprocess.run(
        ["bash", "job.sh"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n1"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    return (folder / "canary").exists()


@given(
    folder=st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=30),
    option=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"])),
)
def test_what_stands_in_an_option_stays_one_line(folder: str, option: str) -> None:
    request = Request("n", more={"comment": option})
    name = "".join(letter for letter in folder if letter.isprintable() and letter not in "\\%")
    paths = RunPaths(Path("/runs") / f"r{name}")
    executor = RunSlurmExecutor(
        Path("/nowhere"), Slurm({"PATH": ""}), step_command(request, paths), 0
    )
    executor.update_parameters(**parameters(request, paths, load_site("generic"), "private"))
    lines = executor.text().split("# setup")[0].split("\n")
    comments = [line for line in lines if line.startswith("#SBATCH --comment")]
    assert [shlex.split(line)[1] for line in comments] == [f"--comment={option}"]
    assert all(re.match(r"#|$", line) for line in lines), "nothing but options comes before setup"


@pytest.mark.parametrize("where", ["comment", "run"])
def test_nothing_of_a_spec_is_executed(where: str, tmp_path: Path) -> None:
    odd = CANARY.replace("/", "")
    request = Request("n", more={"comment": odd} if where == "comment" else {})
    run = tmp_path / (odd if where == "run" else "run")
    paths = RunPaths.create(run, "private")
    executor = RunSlurmExecutor(
        paths.slurm, Slurm({"PATH": ""}), step_command(request, paths), 0o077
    )
    executor.update_parameters(**parameters(request, paths, load_site("generic"), "private"))
    assert not executed(executor.text(), tmp_path)
    assert (paths.slurm / "jobs.jsonl").exists(), "the script did run"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a\nb"},
        {"name": "$(touch canary)"},
        {"name": "a;b"},
        {"name": "a'b"},
        {"cluster": {"partition": "a\n#SBATCH --x"}},
        {"cluster": {"account": "a;touch canary"}},
        {"cluster": {"constraint": "$(x)"}},
        {"cluster": {"gpu_type": "a`b`", "gpus_per_node": 1}},
        {"cluster": {"sbatch": {"comment": "a\nrm -rf /"}}},
        {"cluster": {"sbatch": {"x\ny": 1}}},
        {"cluster": {"container": "/image\nrm"}},
        {"cluster": {"container": "docker://debian"}},
        {"cluster": {"container": {"image": "/i", "python": "-c"}}},
        {"cluster": {"container": {"image": "/i", "python": "a;b"}}},
        {"cluster": {"container": {"image": "/i", "binds": ["/a:/etc"]}}},
        {"cluster": {"container": {"image": "/i", "runtime": "sh"}}},
        {"cluster": {"container": {"image": "containers-storage:--privileged"}}},
    ],
)
def test_hostile_words_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        load_spec({**SPEC, **change})


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\rb", "50%j"])
def test_a_path_that_would_be_something_else_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot stand in a batch script"):
        dry_run(load_spec(SPEC), Path("/runs") / name, None)


def test_variables_of_the_scheduler_are_hidden() -> None:
    seen = {
        "SBATCH_PARTITION": "x",
        "SLURM_JOB_ID": "1",
        "SRUN_DEBUG": "1",
        "SQUEUE_FORMAT": "%i",
        "SLURM_CONF": "/etc/slurm.conf",
        "HOME": "/h",
    }
    hidden = slurm_variables(seen)
    assert hidden == ["SBATCH_PARTITION", "SLURM_JOB_ID", "SQUEUE_FORMAT", "SRUN_DEBUG"]
    assert set(Slurm(seen).environment) == {"SLURM_CONF", "HOME", "LC_ALL"}
