"""The verb checkpoints, as a user calls it: what is shown, what is damaged, what is done."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from checkpoint_helpers import flip_bit
from hypothesis import given
from hypothesis import strategies as st
from runs_helpers import bare_user, make_run, resolved, stop

from harness.checkpoint import Store
from harness.checkpoint.leftovers import temporary_name
from harness.cli.main import main
from harness.launch.checkpoints import Lines
from harness.launch.roll_back import roll_back
from harness.launch.slurm import Slurm
from harness.runs.attempts import begin_attempt
from harness.runs.create import create_run
from harness.runs.paths import RunPaths
from harness.runs.record import update_record

__all__ = ["bare_user"]  # a fixture, found by its name


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """A stopped run of two phases of two epochs, ten steps each."""
    paths, _ = create_run(resolved(), tmp_path / "run")
    update_record(paths, trained=[{"phase": "head"}, {"phase": "all"}])
    store = Store(paths.checkpoints, keep=9, access="private", log=print)
    for step in (5, 10, 25):
        best = {"metric": "val_accuracy", "value": 0.75, "step": 10 if step > 5 else None}
        position = {"step": step, "phase": step // 20}
        store.save(step, {}, {"position": position, "best": best})
    lines = [{"step": n, "epoch": (n - 1) // 10, "epoch_end": n % 10 == 0} for n in (8, 10, 20)]
    paths.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stop(paths)
    return paths


@pytest.fixture
def call(paths: RunPaths, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path):
    """Calls the verb for the run; exit code, standard output, standard error."""
    monkeypatch.setenv("PATH", str(tmp_path))  # no SLURM

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["checkpoints", str(paths.root), *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_what_is_there(call, paths):
    code, out, _ = call()
    head, *rows, last = out.splitlines()
    assert code == 0
    assert head.split() == ["STEP", "PHASE", "EPOCH", "WHEN", "SIZE"]
    cells = [row.split(maxsplit=6) for row in rows]
    assert [one[:3] for one in cells] == [
        ["5", "head", "0"],
        ["10", "head", "0"],
        ["25", "all", "2"],
    ]
    assert all(one[3].endswith("Z") and one[5] in ("bytes", "kB") for one in cells)
    assert [one[6:] for one in cells] == [[], ["best"], ["next start"]]
    assert last.startswith(f"3 in {paths.checkpoints}, ")


def test_the_same_as_json(call, paths):
    code, out, _ = call("--json")
    found = json.loads(out)
    assert (code, found["path"], found["next"], found["best"]) == (0, str(paths.root), 25, 10)
    first = found["checkpoints"][0]
    assert first.pop("time").endswith("Z") and first.pop("bytes") > 100
    assert first == {
        "step": 5,
        "kind": "checkpoint",
        "path": str(paths.checkpoint(5)),
        "phase": "head",
        "epoch": 0,
        "best": False,
        "damages": [],
        "verified": False,
        "next": False,
    }
    assert [row["step"] for row in found["checkpoints"] if row["next"]] == [25]


def test_none_yet(tmp_path, capsys):
    paths = make_run(tmp_path)
    for folder in (None, paths.checkpoints):
        if folder is not None:
            shutil.rmtree(folder)
        assert main(["checkpoints", str(paths.root)]) == 0
        assert capsys.readouterr().out == f"no checkpoints in {paths.checkpoints}\n"
        assert main(["checkpoints", str(paths.root), "--verify", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["checkpoints"] == []


def test_what_is_no_checkpoint_is_shown_for_what_it_is(call, paths, tmp_path):
    roll_back(paths, 10, Slurm())
    folder = paths.checkpoints
    for name in (temporary_name(), f".tmp-{os.uname().nodename}-999999999-ab12", ".trash-x-ab12"):
        (folder / name).mkdir()
        (folder / name / "state.json").write_bytes(b"half")
    shutil.copytree(folder / "step-00000010", folder / ".replaced-step-00000010-ab12")
    found = json.loads(call("--json")[1])
    kinds = [(row["step"], row["kind"], row["best"]) for row in found["checkpoints"]]
    assert kinds[:3] == [
        (5, "checkpoint", False),
        (10, "checkpoint", True),
        (25, "set aside", False),
    ]
    assert sorted(kinds[3:], key=str) == [
        (10, "left over", False),
        (None, "being written", False),
        (None, "left over", False),
        (None, "left over", False),
    ]
    assert found["next"] == 10
    out = call()[1]
    assert "set aside: set-aside-1" in out and "being written" in out
    assert [row["bytes"] for row in found["checkpoints"] if row["path"].endswith("x-ab12")] == [4]


def test_whole_ones_verify(call):
    code, out, err = call("--verify")
    assert (code, err) == (0, "")
    assert [row.split()[-1] for row in out.splitlines()[1:4]] == ["whole", "best", "start"]
    assert out.count("  whole") == 3 and "damaged" not in out


@pytest.mark.parametrize("file", ["state.json", "manifest.json"])
@pytest.mark.parametrize("bit", [0, 77, 300])
def test_a_bit_that_has_changed_is_found_and_named(call, paths, file, bit):
    flip_bit(paths.checkpoint(25) / file, bit)
    code, out, _ = call("--verify")
    assert code == 5
    (line,) = [line for line in out.splitlines() if line.startswith("damaged: ")]
    assert line.startswith(f"damaged: {paths.checkpoint(25)}: {file} ")
    (row,) = [row for row in out.splitlines() if row.startswith("25 ")]
    assert row.endswith("damaged")
    found = json.loads(call("--verify", "--json")[1])
    assert (found["next"], [bool(row["damages"]) for row in found["checkpoints"]]) == (
        10,
        [False, False, True],
    )


def test_every_damaged_file_is_named(call, paths):
    other = paths.checkpoint(25) / "more.bin"
    manifest = paths.checkpoint(25) / "manifest.json"
    from dataclasses import replace

    from harness.checkpoint.manifest import read_manifest, render_manifest

    before = read_manifest(paths.checkpoint(25))
    files = {**before.files, other.name: (3, "ab" * 32)}
    manifest.write_bytes(render_manifest(replace(before, files=files)))
    os.truncate(paths.checkpoint(25) / "state.json", 7)
    out = call("--verify")[1]
    assert "more.bin: No such file" in out and "state.json has 7 bytes instead of" in out


def test_without_verify_only_the_manifest_is_read(call, paths):
    flip_bit(paths.checkpoint(25) / "manifest.json", 40)
    flip_bit(paths.checkpoint(10) / "state.json", 1)
    code, out, _ = call()
    assert code == 0 and out.count("damaged: ") >= 1
    assert f"{paths.checkpoint(25)}: manifest.json" in out


def test_one_step_alone(call, paths):
    flip_bit(paths.checkpoint(25) / "state.json", 8)
    assert call("--verify", "--step", 10)[0] == 0
    code, out, _ = call("--verify", "--step", 25)
    assert code == 5 and out.splitlines()[1].split()[0] == "25"
    assert len(json.loads(call("--step", 5, "--json")[1])["checkpoints"]) == 1
    code, _, err = call("--step", 6)
    assert code == 2 and "no checkpoint of step 6, allowed: 5, 10, 25" in err


def test_one_set_aside_is_verified_too(call, paths):
    folder = roll_back(paths, 10, Slurm()).folder
    flip_bit(folder / "step-00000025" / "state.json", 8)
    code, out, _ = call("--verify")
    assert code == 5 and f"damaged: {folder}/step-00000025: state.json differs" in out


def test_it_is_shown_while_the_run_trains(call, paths):
    begin_attempt(paths, {})
    assert call()[0] == 0


def test_rolling_back_says_what_it_does_and_what_is_next(call, paths):
    code, out, _ = call("--roll-back", 10, "--dry-run")
    assert code == 0 and out.startswith("nothing is changed; this would be done:\n")
    assert "next  " not in out and paths.checkpoint(25).exists()
    code, out, err = call("--roll-back", 10)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "rolled back    to step 10",
        "set aside      steps 25",
        f"               in {paths.checkpoints}/set-aside-1",
        "best           step 10, val_accuracy 0.75",
        "metrics        1 lines of later steps go back at the next start",
        f"next           harness run {paths.spec} --run-dir {paths.root}",
        f"               harness checkpoints {paths.root} --bring-back   (undoes it)",
    ]
    assert main(["status", str(paths.root), "--no-scheduler"]) == 0
    code, out, _ = call("--bring-back")
    assert (code, out) == (0, "brought back   steps 25\n")
    assert call("--bring-back")[0] == 2


def test_status_and_list_say_that_it_was_rolled_back(call, paths, capsys):
    call("--roll-back", 10)
    assert main(["status", str(paths.root), "--no-scheduler"]) == 0
    said = capsys.readouterr().out
    assert "has stopped; the same command continues it: it was rolled back to step 10." in said
    assert "Step 10" in said and "then rolled back to step 10" in said


def test_json_of_a_change(call, paths):
    said = json.loads(call("--roll-back", 5, "--json")[1])
    assert (said["step"], said["set_aside"], said["best"]) == (5, [10, 25], None)
    assert said["next"].startswith("harness run ")
    back = json.loads(call("--bring-back", "--json", "--dry-run")[1])
    assert back["brought_back"] == [10, 25] and not paths.checkpoint(25).exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dry-run"], "--dry-run belongs to a change"),
        (["--verify", "--dry-run"], "--dry-run belongs to a change"),
        (["--roll-back", "5", "--step", "5"], "--step belongs to what is shown"),
        (["--roll-back", "7"], "has no checkpoint of step 7, allowed: 5, 10, 25"),
        (["--roll-back", "25"], "step 25 is that of its newest checkpoint already"),
        (["--bring-back"], "nothing is set aside"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words, said):
    code, out, err = call(*words)
    assert (code, out) == (2, "") and said in err and "; next: " in err


def test_a_damaged_target_is_a_storage_error(call, paths):
    flip_bit(paths.checkpoint(10) / "state.json", 8)
    code, _, err = call("--roll-back", 10)
    assert code == 5 and "state.json differs" in err and "allowed: 5, 25" in err


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 4), st.data())
def test_the_epoch_of_a_step_is_told_by_the_lines(lengths, every, data):
    """Epochs of any lengths, with a line every so many steps and at each end."""
    ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
    of = {s: n for n, end in enumerate(ends) for s in range(end - lengths[n] + 1, end + 1)}
    all_lines = [
        {"step": s, "epoch": of[s], "epoch_end": s in ends}
        for s in sorted(of)
        if s % every == 0 or s in ends
    ]
    step = data.draw(st.sampled_from(sorted(of)))
    assert Lines(all_lines).epoch_of(step, newest=False) == of[step]
    known = Lines([line for line in all_lines if line["step"] <= step])
    if known.epoch_of(step, newest=True) is not None:
        assert known.epoch_of(step, newest=True) == of[step]
    before = [line for line in all_lines if line["step"] < step]
    assert Lines(before).epoch_of(step, newest=False) is None


def test_lines_of_others_do_no_harm():
    lines = Lines([{"step": 5}, {"step": "6", "epoch": 1}, {"torn": "{"}])
    assert lines.epoch_of(5, newest=True) is None
