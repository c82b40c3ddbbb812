"""A fork of somebody else's run: only data is taken, nothing is run or followed."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from pathlib import Path

import pytest
from fork_helpers import fork, parent, said, save
from rights import need_root
from runs_helpers import NOBODY, as_nobody, bare_user, names_in, resolved

from harness.checkpoint.store import Store
from harness.errors import SpecError, StorageError
from harness.launch.fork import fork_run
from harness.runs.create import create_run
from harness.runs.files import sha256_file
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record
from harness.runs.snapshot import kept_plugins
from harness.spec import load_spec

__all__ = ["bare_user", "fork", "parent", "said"]  # fixtures, found by their names


def test_nothing_of_the_parent_is_unpickled_or_followed(parent, fork, tmp_path):
    bomb = tmp_path / "exploded"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (bomb,))

    for name in ("slurm/1_submitted.pkl", "checkpoints/step-00000030/extra.pkl", "state.pkl"):
        (parent.root / name).write_bytes(pickle.dumps(Bomb()))
    forked = fork(parent)
    assert not bomb.exists()
    assert names_in(forked.paths.checkpoint(30)) == ["manifest.json", "state.json"]
    assert not list(forked.paths.root.rglob("*.pkl"))


@pytest.mark.parametrize("step", ["../../../etc", -1, None, 10.5, True, {}])
def test_a_best_step_that_is_none_is_not_followed(parent, fork, step):
    store = Store(parent.checkpoints, keep=9, access="private", log=print)
    store.save(40, {}, {"best": {"metric": "m", "value": 1.0, "step": step}})
    try:
        forked = fork(parent)
    except StorageError:
        return
    assert forked.parent["step"] in (30, 40)
    assert all(name.startswith("step-") for name in names_in(forked.paths.checkpoints))


class TestPlugins:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "mine.py"
        path.write_text("x = 1\n")
        path.chmod(0o644)
        return path

    @pytest.fixture
    def parent(self, file, tmp_path):
        paths, _ = create_run(resolved(plugins=[str(file)]), tmp_path / "parent")
        save(paths, 10)
        return paths

    def test_those_of_the_parent_as_they_were(self, parent, file, fork):
        file.write_text("x = 2\n")
        forked = fork(parent)
        (copy,) = kept_plugins(forked.paths)
        assert Path(copy).read_text() == "x = 1\n" and Path(copy).is_relative_to(forked.paths.root)
        assert read_record(forked.paths)["plugins"][0]["ref"] == str(file)

    def test_others_by_override(self, parent, fork, tmp_path):
        other = tmp_path / "other.py"
        other.write_text("x = 3\n")
        other.chmod(0o644)
        (copy,) = kept_plugins(fork(parent, f"plugins=[{other}]").paths)
        assert Path(copy).read_text() == "x = 3\n"

    def test_a_strangers_are_not_taken(self, parent, fork):
        (copy,) = kept_plugins(parent)
        os.chown(copy, 4321, -1)
        with pytest.raises(SpecError, match="belongs to somebody else"):
            fork(parent)

    @pytest.mark.parametrize(
        "name", ["../own.py", "plugins/../own.py", "/etc/passwd", "plugins/.."]
    )
    def test_the_record_cannot_name_a_file_outside_the_run(self, parent, fork, name):
        own = parent.root / "own.py"
        own.write_text("x = 1\n")
        entry = {"ref": "r", "file": name, "sha256": sha256_file(own)}
        update_record(parent, plugins=[entry])
        with pytest.raises(StorageError, match="no file of the run's own"):
            fork(parent)

    def test_nor_a_link_to_one(self, parent, fork, file):
        copy = parent.plugins / "mine.py"
        copy.unlink()
        copy.symlink_to(file)
        with pytest.raises(StorageError, match="no file of the run's own"):
            fork(parent)


def test_a_colleagues_run_becomes_ones_own(parent, said, monkeypatch):
    need_root()
    with tempfile.TemporaryDirectory() as folder:
        theirs, mine = RunPaths(Path(folder) / "theirs"), Path(folder) / "mine"
        shutil.copytree(parent.root, theirs.root)
        for path in (Path(folder), theirs.root, *theirs.root.rglob("*")):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        mine.mkdir()
        os.chown(mine, NOBODY, NOBODY)
        monkeypatch.chdir(mine)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(mine))
        refused = as_nobody(lambda: create_run(load_spec(theirs.spec), theirs.root))
        assert refused.startswith("StorageError") and "not permitted" in refused
        step = as_nobody(lambda: fork_run(theirs, run_dir=mine / "r", log=print).parent["step"])
        assert step == "30"
        assert {path.stat().st_uid for path in (mine / "r").rglob("*")} == {NOBODY}
