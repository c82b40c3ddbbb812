"""Creating a run, or going on with the one that the same command began."""

from __future__ import annotations

import json
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from rights import mount_tmpfs
from runs_helpers import (
    SPEC,
    as_nobody,
    bare_user,
    names_in,
    python,
    resolved,
)

from harness.errors import SpecError, StorageError, UsageError
from harness.runs.create import create_run
from harness.runs.ids import looks_like_run_id
from harness.runs.record import read_record
from harness.runs.snapshot import kept_plugins
from harness.runs.state import run_state
from harness.spec import dump_spec, load_spec, spec_digest, spec_from_file_resolved

__all__ = ["bare_user"]  # a fixture, found by its name


class TestPlace:
    def test_a_folder_that_holds_the_spec_itself_is_refused(self, tmp_path):
        folder = tmp_path / "experiment"
        folder.mkdir()
        (folder / "spec.yaml").write_text(dump_spec(resolved().spec))
        mine = load_spec(folder / "spec.yaml")
        with pytest.raises(UsageError, match="holds the spec itself"):
            create_run(mine, folder)
        assert names_in(folder) == ["spec.yaml"]
        paths, _ = create_run(mine, folder / "run")
        assert paths.root == folder / "run"


class TestCreated:
    def test_a_new_run_is_whole(self, tmp_path):
        spec = resolved(training__seed=7)
        paths, how = create_run(spec)
        assert how == "created"
        assert paths.root == tmp_path / "runs" / "textures" / "20260101-000000-aaaa"
        assert spec_from_file_resolved(paths.spec) == spec.spec
        record = read_record(paths)
        assert record["run_id"] == paths.root.name and record["name"] == "textures"
        assert record["spec_digest"] == spec_digest(spec.spec)
        assert {"python", "host", "versions", "git", "created", "harness_version"} <= record.keys()
        assert record["parent"] is None and record["plugins"] == []
        lines = paths.environment_lock.read_text().splitlines()
        assert any(line.startswith("pydantic==") for line in lines)
        assert run_state(paths).word == "new"

    def test_nothing_inside_names_its_own_place(self, tmp_path):
        paths, _ = create_run(resolved())
        for path in paths.root.rglob("*"):
            if path.is_file():
                assert str(paths.root) not in path.read_text(), path

    @pytest.mark.parametrize(("flag", "variable"), [("a", None), (None, "b"), ("a", "b")])
    def test_where_runs_go(self, tmp_path, monkeypatch, flag, variable):
        if variable:
            monkeypatch.setenv("HARNESS_RUNS_ROOT", str(tmp_path / variable))
        paths, _ = create_run(resolved(), runs_root=flag)
        assert paths.root.parents[1] == tmp_path / (flag or variable)

    def test_a_directory_of_ones_own(self, tmp_path):
        paths, how = create_run(resolved(), Path("my/place"))
        assert how == "created" and paths.root == tmp_path / "my" / "place"
        assert looks_like_run_id(read_record(paths)["run_id"])

    def test_an_empty_directory_that_is_there(self, tmp_path):
        (tmp_path / "mine").mkdir()
        assert create_run(resolved(), tmp_path / "mine")[1] == "created"

    @pytest.mark.parametrize("access", ["private", "group"])
    def test_access(self, access):
        paths, _ = create_run(resolved(access=access))
        folder, file = (0o2770, 0o660) if access == "group" else (0o700, 0o600)
        for path in (paths.root, *paths.root.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (folder if path.is_dir() else file)

    def test_uncommitted_changes_are_kept(self, tmp_path):
        repository = tmp_path / "repository"
        repository.mkdir()
        file = repository / "job.yaml"
        file.write_text(dump_spec(resolved().spec))
        git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
            subprocess.run([*git, *words], check=True)
        head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
        paths, _ = create_run(load_spec(file))
        assert read_record(paths)["git"] == {"commit": head, "dirty": False}
        assert read_record(paths)["spec_file"] == str(file) and not paths.git_diff.exists()
        file.write_text(dump_spec(resolved(training__seed=99).spec))
        paths, _ = create_run(load_spec(file))
        assert read_record(paths)["git"] == {"commit": head, "dirty": True, "diff": "git.diff"}
        assert "+  seed: 99" in paths.git_diff.read_text()

    def test_outside_a_repository(self):
        git = read_record(create_run(resolved())[0])["git"]
        assert git["commit"] is None and "not a git repository" in git["why"]


class TestStorage:
    def test_a_read_only_place(self):
        spec = resolved()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o555)
            told = [as_nobody(lambda: create_run(spec, Path(folder) / "r"))]
            told.append(as_nobody(lambda: create_run(spec, runs_root=folder)))
            assert names_in(Path(folder)) == []
        for text in told:
            assert text.startswith("StorageError") and "not permitted" in text
            assert "next: " in text and "--run-dir" in text

    def test_a_full_disk_before_anything_is_made(self, tmp_path):
        small = tmp_path / "small"
        small.mkdir()
        mount_tmpfs(small, "size=1m")
        try:
            for call in (
                lambda: create_run(resolved(), small / "r"),
                lambda: create_run(resolved(), runs_root=small),
            ):
                with pytest.raises(StorageError, match=r"almost full.*needed; next: "):
                    call()
            assert names_in(small) == []
        finally:
            subprocess.run(["umount", "-l", str(small)], check=True)

    def test_a_root_that_is_a_file(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="not a directory"):
            create_run(resolved(), runs_root=tmp_path / "file")


class TestPlugins:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "mine.py"
        path.write_text("x = 1\n")
        path.chmod(0o644)
        return path

    def test_a_run_goes_on_with_its_own_copy(self, file, tmp_path):
        paths, _ = create_run(resolved(plugins=[str(file)]), tmp_path / "r")
        file.write_text("x = 2\n")
        assert create_run(resolved(plugins=[str(file)]), tmp_path / "r")[1] == "continued"
        (copy,) = kept_plugins(paths)
        assert Path(copy).read_text() == "x = 1\n" and Path(copy).is_relative_to(paths.plugins)
        (entry,) = read_record(paths)["plugins"]
        assert entry["ref"] == str(file) and entry["file"] == "plugins/mine.py"

    def test_two_files_of_one_name(self, file, tmp_path):
        other = tmp_path / "other" / "mine.py"
        other.parent.mkdir()
        other.write_text("x = 2\n")
        other.chmod(0o644)
        paths, _ = create_run(resolved(plugins=[str(file), str(other)]))
        assert [Path(p).read_text() for p in kept_plugins(paths)] == ["x = 1\n", "x = 2\n"]

    def test_a_changed_copy_is_found_out(self, file):
        paths, _ = create_run(resolved(plugins=[str(file)]))
        (paths.plugins / "mine.py").write_text("x = 3\n")
        with pytest.raises(StorageError, match="changed after the run was created"):
            kept_plugins(paths)

    def test_the_group_cannot_write_to_programs(self, file):
        paths, _ = create_run(resolved(plugins=[str(file)], access="group"))
        modes = [stat.S_IMODE(p.stat().st_mode) for p in (paths.plugins, paths.plugins / "mine.py")]
        assert modes == [0o2750, 0o640]

    def test_copying_does_not_launder_a_strangers_file(self, file, tmp_path):
        file.chmod(0o666)
        with pytest.raises(SpecError, match="others may write to this one"):
            create_run(resolved(plugins=[str(file)]), tmp_path / "r")
        assert not (tmp_path / "r" / "run.json").exists()


def test_create_needs_no_tensorflow_and_no_numpy(tmp_path):
    code = """
        import json, sys
        from harness.runs.create import create_run
        from harness.spec import load_spec
        create_run(load_spec(json.loads(sys.argv[1])), runs_root=sys.argv[2])
        print([name for name in ("tensorflow", "numpy", "tf_keras") if name in sys.modules])
    """
    child = python(code, json.dumps(SPEC), tmp_path)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0 and out == "[]\n", err
