"""Verbs as jobs: the script, what it must not execute, how it ends, what is refused."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.launch.verb_job import START

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that one is in, with a class of pictures in ``pictures``."""
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_RUNS_ROOT", str(tmp_path / "runs"))
    return tmp_path


def script(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words, "--slurm", "--dry-run"]) == 0
    return capsys.readouterr().out


def options(text: str) -> dict[str, str]:
    rows = (line.removeprefix("#SBATCH --") for line in text.splitlines() if "#SBATCH" in line)
    return {row.partition("=")[0]: row.partition("=")[2] for row in rows}


def step(text: str) -> list[str]:
    """The words after harness' own start in the step's command."""
    (line,) = [line for line in text.splitlines() if line.startswith("harness_step ")]
    words = shlex.split(line)
    return words[words.index(START) + 1 :]


def test_a_job_runs_what_was_typed_with_absolute_paths(capsys, folder: Path) -> None:
    text = script(
        capsys,
        "pack",
        "pictures",
        "out",
        "--resize",
        "64",
        "--verify",
        "-o",
        "cluster.time=1:00:00",
    )
    assert step(text) == [
        *("pack", str(folder / "pictures"), str(folder / "out"), "--shard-mb", "64"),
        *("--resize", "64", "--verify", "--workers", "4"),
    ]
    found = options(text)
    assert found["time"] == "1:00:00"
    assert found["mem"] == "4G"
    assert found["cpus-per-task"] == "4"
    assert "gres" not in found
    assert "array" not in found
    assert found["output"].startswith(str(folder / "runs" / ".jobs" / "pack-out-"))
    assert not (folder / "runs").exists(), "nothing is written"
    assert not (folder / "out").exists()


def test_parts_are_an_array_each_with_files_of_its_own(capsys) -> None:
    text = script(capsys, "pack", "pictures", "out", "--jobs", "5", "--workers", "2")
    found = options(text)
    assert (found["array"], found["cpus-per-task"]) == ("1-5", "2")
    assert found["error"].endswith("/part-%a/slurm/%A_%a_0_log.err")
    assert step(text)[-4:] == ["--workers", "2", "--part", "$SLURM_ARRAY_TASK_ID/5"]
    assert '--part "$SLURM_ARRAY_TASK_ID/5"' in text
    assert 'harness_run+="/part-$SLURM_ARRAY_TASK_ID"' in text.splitlines()


def test_a_spec_gives_site_and_account_and_no_gpus(capsys, folder: Path) -> None:
    (folder / "site.yaml").write_text(
        "name: here\npartitions: {gpu: {gpus_per_node: 4}}\n"
        "cluster: {partition: gpu, gpus_per_node: 4, gpu_type: a100, cpus_per_gpu: 8}\n"
    )
    spec = {
        "harness_spec": 1,
        "name": "x",
        "backbone": {"handle": "https://tfhub.dev/x/1"},
        "data": {"train": "pictures"},
        "cluster": {"site": "./site.yaml", "account": "lab", "nodes": 8, "gpus_per_node": 2},
    }
    (folder / "spec.yaml").write_text(json.dumps(spec))
    text = script(
        capsys,
        *("inspect", "spec.yaml", "--all", "-o", "data.image_size=64"),
        *("-o", "cluster.cpus_per_rank=6"),
    )
    found = options(text)
    assert (found["account"], found["nodes"], found["cpus-per-task"]) == ("lab", "1", "6")
    assert found["partition"] == "gpu"
    assert "gres" not in found
    assert step(text) == [
        *("inspect", str(folder / "spec.yaml"), "--seed", "1", "--all"),
        *("-o", "data.image_size=64"),
    ]


def test_a_spec_says_what_is_packed_and_where(capsys, folder: Path) -> None:
    spec = {
        "harness_spec": 1,
        "name": "x",
        "backbone": {"handle": "https://tfhub.dev/x/1"},
        "data": {"train": "all.csv", "columns": {"split": "use"}},
        "cluster": {"account": "lab"},
    }
    (folder / "all.csv").write_text("file,label,use\n")
    (folder / "spec.yaml").write_text(json.dumps(spec))
    (folder / "image.sif").touch()
    command = ["pack", "spec.yaml", "out", "--split", "test"]
    text = script(capsys, *command)
    assert step(text) == [
        *("pack", str(folder / "spec.yaml"), str(folder / "out"), "--shard-mb", "64"),
        *("--split", "test", "--workers", "4"),
    ]
    assert options(text)["account"] == "lab"
    # In a container: all that the spec and its manifest name, and where the set is to be.
    text = script(capsys, *command, "-o", f"cluster.container.image={folder / 'image.sif'}")
    seen = [shlex.split(line)[1] for line in text.splitlines() if line.startswith("harness_see ")]
    for path in (folder, folder / "all.csv", folder / "spec.yaml", folder / "out"):
        assert str(path) in seen
    text = script(
        capsys, "pack", "all.csv", "out", "-o", f"cluster.container.image={folder / 'image.sif'}"
    )
    assert f"harness_see {folder} " in text, "its paths start where it lies"


def test_a_job_of_the_same_data_has_the_same_folder(capsys, folder: Path) -> None:
    outs = [
        options(script(capsys, "pack", "pictures", out))["output"].rpartition("/slurm/")[0]
        for out in ("out", str(folder / "out"), "other/out")
    ]
    assert outs[0] == outs[1] != outs[2]


@pytest.mark.parametrize(
    "name", ["$(touch CANARY)", "`touch CANARY`;touch CANARY", "a'b\"; touch CANARY"]
)
def test_nothing_of_a_name_is_executed(capsys, folder: Path, name: str) -> None:
    (folder / name / "a").mkdir(parents=True)
    text = script(capsys, "pack", name, f"{name} out")
    shown = folder / "shown"
    # Without SLURM the script ends where it starts the ranks; bash has read all of it before.
    fake = folder / "bin"
    fake.mkdir()
    (fake / "srun").write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {shown}\n')
    (fake / "srun").chmod(0o755)
    root = Path(options(text)["output"]).parent
    root.mkdir(parents=True)
    environment = {
        "PATH": f"{fake}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n1",
    }
    done = subprocess.run(
        ["bash", "-c", text], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = shown.read_text().splitlines()
    assert said[said.index("pack") + 1 :][:2] == [str(folder / name), str(folder / f"{name} out")]
    assert not list(folder.rglob("CANARY"))


@pytest.mark.parametrize(
    ("ends", "code", "words"),
    [
        ("exit 0", 0, ""),
        ("exit 4", 4, "nothing is tried again"),
        ("exit 1", 1, "nothing is tried again"),
        ("exit 137", 75, "it ended with code 137; the job is requeued"),
    ],
)
def test_how_a_job_ends(capsys, folder: Path, ends: str, code: int, words: str) -> None:
    text = script(capsys, "pack", "pictures", "out")
    (folder / "bin").mkdir()
    for name, line in (("srun", ends), ("scontrol", "exit 1")):
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / "bin" / name).chmod(0o755)
    logs = Path(options(text)["output"]).parent
    logs.mkdir(parents=True)
    (logs / "7_0_log.err").touch()
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n1",
    }
    command = ["bash", "-c", text]

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = start()
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert (logs.parent / "FINISHED").exists() == (code == 0)
    if code == 75:
        # Another start without a new file is charged, one with some is not.
        charged = logs / "without-progress"
        assert charged.read_text() == "0\n"
        assert "next: cd " in done.stderr
        start()
        assert charged.read_text() == "0\n0\n"
        (folder / "bin" / "srun").write_text(
            f"#!/bin/bash\nmkdir -p {folder}/out; touch {folder}/out/data-1; {ends}\n"
        )
        start()
        assert not charged.exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("pack pictures out --jobs 2", 2, "--jobs belongs to a job"),
        ("pack pictures out -o cluster.time=1:00:00", 2, "-o belongs to a job"),
        ("pack pictures out --dry-run --site x", 2, "--site and --dry-run belong to a job"),
        ("pack pictures out --slurm --part 1/2", 2, "use --jobs N"),
        ("pack pictures out --slurm --site local", 2, "site local has no SLURM"),
        ("pack pictures out --slurm -o data.train=x", 2, "only fields of cluster say"),
        ("pack pictures out --slurm -o cluster.tim=1", 2, "cluster.tim"),
        ("pack pictures out --slurm -o cluster.ranks_per_node=2", 3, "cluster.strategy is single"),
        ("pack pictures out --slurm --jobs 2 -o cluster.continue_by=chain", 2, "cannot each be"),
        ("pack pictures pictures/out --slurm", 2, "lies in the data that are to be packed"),
        ("pack nowhere out --slurm", 4, "nowhere does not exist"),
        ("pack pictures out --slurm --quality 3", 2, "--quality is of pictures"),
        ("inspect pictures --no-preflight", 2, "--no-preflight belongs to a job"),
        ("inspect nowhere --slurm", 4, "does not exist"),
        ("inspect pictures --slurm -o data.image_size=9", 2, "belongs to a spec"),
        ("inspect pictures --slurm --augment x.png", 2, "no work for a job"),
    ],
)
def test_what_is_refused(capsys, folder: Path, words: str, code: int, said: str) -> None:
    assert main(words.split()) == code
    assert said in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"pictures"}


def test_without_slurm_nothing_is_written(
    capsys, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert main(["pack", "pictures", "out", "--slurm"]) == 3
    assert "no SLURM on this machine" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"pictures"}
