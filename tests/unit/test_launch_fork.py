"""Forking a run: a verified checkpoint, one's own directory, nothing of the parent executed."""

from __future__ import annotations

import argparse
import json
import shlex
import stat
from pathlib import Path

import pytest
from fork_helpers import fork, parent, said, save
from runs_helpers import bare_user, names_in, output_of, python, resolved

from harness.checkpoint.manifest import MANIFEST, DamagedCheckpoint
from harness.checkpoint.store import Store
from harness.errors import SpecError, StorageError, UsageError
from harness.runs.create import create_run
from harness.runs.files import sha256_file
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record
from harness.runs.state import run_state
from harness.spec import load_spec, spec_digest, spec_from_file_resolved

__all__ = ["bare_user", "fork", "parent", "said"]  # fixtures, found by their names


def damage(paths: RunPaths, step: int) -> None:
    file = paths.checkpoint(step) / "state.json"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_fork_has_its_own_place_and_says_where_it_comes_from(parent, fork, said, tmp_path):
    before = tree(parent.root)
    forked = fork(parent, "training.seed=2")
    record = read_record(forked.paths)
    assert (
        record["parent"]
        == forked.parent
        == {
            "run_id": read_record(parent)["run_id"],
            "path": str(parent.root),
            "step": 30,
            "checkpoint": sha256_file(parent.checkpoint(30) / MANIFEST),
        }
    )
    assert forked.paths.root.parent == tmp_path / "runs" / "textures"
    assert record["run_id"] != read_record(parent)["run_id"]
    spec = spec_from_file_resolved(forked.paths.spec)
    assert spec.training.seed == 2 and record["spec_digest"] == spec_digest(spec)
    assert run_state(forked.paths).word == "new" and said == []
    assert tree(parent.root) == before, "the parent is only read"


def test_what_the_weights_belong_to_is_held_from_its_start(parent, fork):
    pins = {"backbone_digest": "a" * 64, "preprocessor_digest": "b" * 64, "classes": ["x", "y"]}
    update_record(parent, **pins, targets=None)
    record = read_record(fork(parent).paths)
    assert {name: record.get(name) for name in pins} == pins and "targets" not in record


def test_it_takes_the_newest_and_the_best(parent, fork):
    made = Store(fork(parent).paths.checkpoints, keep=9, access="private", log=print)
    assert [info.step for info in made.list()] == [10, 30]
    for info in made.list():
        made.verify(info.path)
    assert made.restore().step == 30


def test_a_best_that_is_the_newest_is_taken_once(parent, fork):
    save(parent, 40, best=40)
    forked = fork(parent)
    assert names_in(forked.paths.checkpoints) == ["step-00000040"]
    assert read_record(forked.paths)["best"]["step"] == 40


def test_a_chosen_step(parent, fork):
    forked = fork(parent, step=20)
    assert names_in(forked.paths.checkpoints) == ["step-00000010", "step-00000020"]
    assert forked.parent["step"] == 20


def test_a_step_that_is_not_there_names_those_that_are(parent, fork):
    with pytest.raises(UsageError, match="no checkpoint of step 25, allowed: 10, 20, 30"):
        fork(parent, step=25)


def test_no_checkpoint_at_all(fork, tmp_path):
    with pytest.raises(UsageError, match="has no checkpoint; next: train it"):
        fork(create_run(resolved(), tmp_path / "p")[0])


def test_damaged_ones_are_passed_over_aloud(parent, fork, said):
    damage(parent, 30)
    assert fork(parent).parent["step"] == 20
    assert len(said) == 1 and "step 30 passed over" in said[0]


def test_one_whose_best_is_damaged_is_passed_over_too(parent, fork, said):
    save(parent, 5)  # before any validation; takes the later ones away
    for step in (10, 20, 30):
        save(parent, step, best=10)
    damage(parent, 10)
    assert fork(parent).parent["step"] == 5
    assert len(said) == 3


def test_all_damaged(parent, fork, tmp_path):
    for step in (10, 20, 30):
        damage(parent, step)
    with pytest.raises(DamagedCheckpoint, match="no checkpoint verifies, got 10, 20, 30"):
        fork(parent)
    with pytest.raises(DamagedCheckpoint, match="step-00000020"):
        fork(parent, step=20)
    assert not (tmp_path / "runs").exists(), "nothing is made before a checkpoint is found"


def test_the_command_it_names_continues_it(parent, fork):
    forked = fork(parent, "training.seed=2", "checkpoint.keep=1", run_dir=Path("mine"))
    words = shlex.split(forked.next_command)
    assert words[:2] == ["harness", "run"] and words[3] == "--run-dir"
    assert create_run(load_spec(words[2]), Path(words[4])) == (forked.paths, "continued")


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("head.hidden=[32]", "head.hidden"),
        ("backbone.handle=hub:/x", "backbone.handle"),
        ("training.optimizer.name=sgd", "training.optimizer.name"),
    ],
)
def test_what_no_checkpoint_fits_is_refused(parent, fork, override, path, tmp_path):
    with pytest.raises(UsageError, match="fits nothing after it") as caught:
        fork(parent, override, "training.seed=3")
    assert [problem.path for problem in caught.value.problems] == [path]
    assert not (tmp_path / "runs").exists()


def test_an_invalid_override(parent, fork):
    with pytest.raises(SpecError, match=r"training\.sed"):
        fork(parent, "training.sed=3")


@pytest.mark.parametrize("make", [lambda d: (d.mkdir(), (d / "x").touch()), lambda d: d.touch()])
def test_a_directory_in_use_is_left_alone(parent, fork, tmp_path, make):
    make(tmp_path / "mine")
    with pytest.raises(UsageError, match="directory of its own"):
        fork(parent, run_dir=tmp_path / "mine")


def test_access_of_the_fork_not_of_the_parent(parent, fork):
    forked = fork(parent, "access=group")
    step = forked.paths.checkpoint(30)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (step, *step.iterdir())}
    assert modes == {0o2770, 0o660}


def test_killed_before_its_record_it_is_no_run(parent, fork, monkeypatch, tmp_path):
    from harness.runs import create

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(create, "write_record", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fork(parent, run_dir=tmp_path / "mine")
    with pytest.raises(UsageError, match="holds no run"):
        create_run(resolved(), tmp_path / "mine")


def test_a_checkpoint_that_changes_meanwhile_is_found_out(parent, fork, monkeypatch, tmp_path):
    from harness.launch import fork as module

    real = module._copy_file

    def changed(source, target):
        real(source, target)
        if target.name == "state.json":
            target.write_bytes(target.read_bytes()[:-1] + b" ")

    monkeypatch.setattr(module, "_copy_file", changed)
    with pytest.raises(StorageError):
        fork(parent, run_dir=tmp_path / "mine")
    assert not (tmp_path / "mine" / "run.json").exists()


def test_the_verb(parent, tmp_path, capsys):
    from harness.cli import fork as verb

    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    words = [str(parent.root), "-o", "training.seed=4", "--run-dir", str(tmp_path / "mine")]
    assert verb.run(parser.parse_args(words)) == 0
    out = capsys.readouterr().out
    assert "at step 30" in out and f"harness run {tmp_path}/mine/spec.yaml --run-dir" in out
    assert verb.run(parser.parse_args([str(parent.root), "--step", "20", "--json"])) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parent"]["step"] == 20 and Path(told["path"], "run.json").exists()


def test_forking_needs_no_tensorflow_and_no_numpy(parent, tmp_path):
    code = """
        import sys
        from pathlib import Path
        from harness.launch.fork import fork_run
        from harness.runs.paths import RunPaths
        fork_run(RunPaths(sys.argv[1]), run_dir=Path(sys.argv[2]), log=print)
        print([name for name in ("tensorflow", "numpy") if name in sys.modules])
    """
    assert output_of(python(code, parent.root, tmp_path / "mine")) == "[]\n"
