"""A run in a directory that the user names."""

from __future__ import annotations

import os
import shlex
import stat

import pytest
from rights import need_root
from runs_helpers import bare_user, fail, finish, holding_child, resolved, stop

from harness.errors import UsageError
from harness.runs import create as create_module
from harness.runs.create import create_run
from harness.runs.record import read_record, update_record
from harness.runs.state import run_state
from harness.spec import dump_spec, load_spec, spec_from_file_resolved
from tests.unit.runs_continue_helpers import interrupt

__all__ = ["bare_user"]  # a fixture, found by its name


class TestRunDir:
    @pytest.mark.parametrize(
        ("between", "how"),
        [
            (lambda p: None, "continued"),
            (stop, "continued"),
            (fail, "continued"),
            (finish, "finished"),
        ],
    )
    def test_again(self, tmp_path, between, how):
        first, _ = create_run(resolved(), tmp_path / "r")
        between(first)
        word = run_state(first).word
        assert create_run(resolved(), tmp_path / "r") == (first, how)
        assert run_state(first).word == word, "only an attempt changes the state"

    def test_another_spec_names_each_field_and_the_fork(self, tmp_path):
        first, _ = create_run(resolved(), tmp_path / "a run")
        other = resolved(training__seed=2, head__dropout=0.5, checkpoint__keep=7)
        before = first.spec.read_bytes()
        with pytest.raises(UsageError) as caught:
            create_run(other, tmp_path / "a run")
        fields = {p.path: (p.got, p.allowed) for p in caught.value.problems if p.path}
        assert set(fields) == {"training.seed", "head.dropout"}
        assert fields["training.seed"][0] == "2" and fields["training.seed"][1].startswith("1, as")
        command = caught.value.problems[-1].action.split("`")[1]
        words = shlex.split(command)
        assert words[:3] == ["harness", "fork", str(first.root)]
        made = load_spec(first.spec, overrides=words[4::2])
        assert made.spec == other.spec, "the command given makes the spec asked for"
        assert first.spec.read_bytes() == before

    def test_a_changed_model_is_not_offered_a_fork(self, tmp_path):
        create_run(resolved(), tmp_path / "r")
        with pytest.raises(UsageError) as caught:
            create_run(resolved(head__hidden=[64]), tmp_path / "r")
        assert "harness fork" not in str(caught.value) and "another --run-dir" in str(caught.value)

    def test_more_epochs_open_a_finished_run(self, tmp_path):
        first, _ = create_run(resolved(), tmp_path / "r")
        update_record(first, final={"test_accuracy": 0.5})
        finish(first)
        more = resolved(training__phases__0__epochs=8)
        assert create_run(more, tmp_path / "r") == (first, "continued")
        state = run_state(first)
        assert (state.word, state.metrics) == ("stopped", {})
        assert spec_from_file_resolved(first.spec).training.phases[0].epochs == 8

    @pytest.mark.parametrize("there", [True, False])
    def test_the_best_of_a_run_that_is_opened_again_has_its_checkpoint(self, tmp_path, there):
        first, _ = create_run(resolved(), tmp_path / "r")
        best = {"metric": "val_accuracy", "value": 0.5, "step": 40}
        update_record(first, best=best)
        if there:
            first.checkpoint(40).mkdir(parents=True)
        finish(first)
        create_run(resolved(checkpoint__keep=9), tmp_path / "r")
        assert read_record(first)["best"] == best, "a run that stays finished stays as it is"
        create_run(resolved(training__phases__0__epochs=8), tmp_path / "r")
        assert read_record(first)["best"] == (best if there else None)

    def test_killed_while_it_opens_it_again(self, tmp_path, monkeypatch):
        first, _ = create_run(resolved(), tmp_path / "r")
        finish(first)
        more = resolved(training__phases__0__epochs=8)
        with monkeypatch.context() as patch:
            patch.setattr(create_module, "write_atomic", interrupt)
            with pytest.raises(KeyboardInterrupt):
                create_run(more, tmp_path / "r")
        assert run_state(first).word != "finished", "or the epochs asked for would never be done"
        assert create_run(more, tmp_path / "r")[1] == "continued"
        assert spec_from_file_resolved(first.spec).training.phases[0].epochs == 8

    def test_fewer_epochs_are_refused(self, tmp_path):
        create_run(resolved(), tmp_path / "r")
        with pytest.raises(UsageError, match=r"phases\.0\.epochs: can only be raised, got 2"):
            create_run(resolved(training__phases__0__epochs=2), tmp_path / "r")

    def test_free_changes_of_a_finished_run_do_not_matter(self, tmp_path):
        first, _ = create_run(resolved(), tmp_path / "r")
        finish(first)
        assert create_run(resolved(checkpoint__keep=9), tmp_path / "r") == (first, "finished")

    def test_access_is_changed_on_disk(self, tmp_path):
        first, _ = create_run(resolved(), tmp_path / "r")
        assert create_run(resolved(access="group"), tmp_path / "r")[1] == "continued"
        modes = {stat.S_IMODE(p.stat().st_mode) for p in (first.root, first.checkpoints)}
        assert modes == {0o2770} and stat.S_IMODE(first.record.stat().st_mode) == 0o660
        assert create_run(resolved(), tmp_path / "r")[1] == "continued"
        assert stat.S_IMODE(first.record.stat().st_mode) == 0o600

    def test_a_change_is_not_written_under_a_training_process(self, tmp_path):
        first, _ = create_run(resolved(), tmp_path / "r")
        child = holding_child(first)
        try:
            with pytest.raises(UsageError, match=f"process {child.pid}"):
                create_run(resolved(checkpoint__keep=9), tmp_path / "r")
            assert spec_from_file_resolved(first.spec) == resolved().spec
        finally:
            child.kill()
            child.communicate()

    def test_new_and_a_run_contradict(self, tmp_path):
        create_run(resolved(), tmp_path / "r")
        with pytest.raises(UsageError, match="holds a run already, got --new"):
            create_run(resolved(), tmp_path / "r", new=True)

    def test_an_edited_spec_is_found_out(self, tmp_path):
        first, _ = create_run(resolved(), tmp_path / "r")
        edited = resolved(training__seed=5)
        first.spec.write_text(dump_spec(edited.spec))
        with pytest.raises(UsageError, match="is not the spec that the run was begun with"):
            create_run(edited, tmp_path / "r")

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda d: (d.mkdir(), (d / "thesis.tex").touch()), "holds no run.*thesis.tex"),
            (lambda d: (d / "checkpoints" / "step-00000001").mkdir(parents=True), "checkpoints"),
            (lambda d: d.touch(), "is no folder"),
        ],
    )
    def test_what_is_no_run_is_left_alone(self, tmp_path, make, words):
        make(tmp_path / "r")
        with pytest.raises(UsageError, match=words):
            create_run(resolved(), tmp_path / "r")

    @pytest.mark.parametrize("killed_at", ["dump_spec", "installed_distributions", "write_record"])
    def test_a_killed_creation_is_made_whole_by_the_same_command(
        self, tmp_path, killed_at, monkeypatch
    ):
        target = create_module if killed_at != "dump_spec" else __import__("harness.spec").spec
        with monkeypatch.context() as patch:
            patch.setattr(target, killed_at, interrupt, raising=False)
            with pytest.raises(KeyboardInterrupt):
                create_run(resolved(), tmp_path / "r")
        paths, how = create_run(resolved(), tmp_path / "r")
        assert how == "created" and read_record(paths)["name"] == "textures"

    def test_somebody_elses_run_is_to_be_forked(self, tmp_path):
        need_root()
        first, _ = create_run(resolved(), tmp_path / "r")
        os.chown(first.record, 4321, -1)
        with pytest.raises(UsageError, match=r"somebody else's run, got owner 4321.*harness fork"):
            create_run(resolved(), tmp_path / "r")
        # Without --run-dir it is not ours to go on with either.
        (tmp_path / "runs" / "textures").mkdir(parents=True)
        first.root.rename(tmp_path / "runs" / "textures" / "20300101-000000-aaaa")
        assert create_run(resolved())[1] == "created"
