"""Going on with a run: by the same command, by --run-dir, and what a changed spec means."""

from __future__ import annotations

import pytest
from runs_helpers import SPEC, bare_user, fail, finish, holding_child, names_in, resolved, stop

from harness.errors import StorageError, UsageError
from harness.runs import create as create_module
from harness.runs.attempts import begin_attempt
from harness.runs.continuing import compare, meaning, settings
from harness.runs.create import create_run
from harness.spec import dump_spec, load_spec, spec_from_file_resolved
from tests.unit.runs_continue_helpers import interrupt

__all__ = ["bare_user"]  # a fixture, found by its name


class TestSameCommandAgain:
    @pytest.mark.parametrize(
        ("between", "how"),
        [
            (lambda p: None, "continued"),
            (stop, "continued"),
            (lambda p: begin_attempt(p, {}), "continued"),
            (finish, "created"),
            (fail, "created"),
        ],
    )
    def test_goes_on_only_with_an_open_run(self, between, how):
        first, _ = create_run(resolved())
        between(first)
        second, found = create_run(resolved())
        assert found == how and (second == first) == (how == "continued")

    @pytest.mark.parametrize(
        ("between", "again"),
        [
            (finish, {}),
            (stop, {}),
            (fail, {"new": True}),
            (fail, {"training__seed": 3}),  # of another spec: nothing to continue
        ],
    )
    def test_nothing_is_said_where_no_failed_run_is_left_alone(self, between, again):
        said: list[str] = []
        first, _ = create_run(resolved(), say=said.append)
        between(first)
        new = again.pop("new", False)
        create_run(resolved(**again), new=new, say=said.append)
        assert said == []

    def test_a_failed_run_is_named_when_a_new_one_begins(self):
        said: list[str] = []
        first, _ = create_run(resolved())
        fail(first)
        second, how = create_run(resolved(), say=said.append)
        assert how == "created" and second != first
        (line,) = said
        assert f"has failed; `--run-dir {first.root}` continues it" in line
        assert "a new run begins (--new is not needed)" in line
        assert create_run(resolved(), first.root) == (first, "continued")

    def test_another_spec_is_another_run(self):
        first, _ = create_run(resolved())
        second, how = create_run(resolved(training__seed=2))
        assert how == "created" and second != first
        # Only the newest counts: the first one is open, and not gone back to.
        assert create_run(resolved())[1] == "created"

    def test_new_asks_for_a_new_one(self):
        first, _ = create_run(resolved())
        second, how = create_run(resolved(), new=True)
        assert how == "created" and second != first

    def test_a_run_that_is_being_trained_is_left_alone(self):
        first, _ = create_run(resolved())
        child = holding_child(first)
        try:
            assert create_run(resolved())[1] == "created"
        finally:
            child.kill()
            child.communicate()

    def test_what_a_killed_creation_left_is_passed_over(self, monkeypatch):
        first, _ = create_run(resolved())
        monkeypatch.setattr(create_module, "write_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            create_run(resolved(), new=True)
        monkeypatch.undo()
        assert len(names_in(first.root.parent)) == 2
        assert create_run(resolved(), runs_root=first.root.parents[1]) == (first, "continued")

    def test_a_broken_record_is_not_started_over_without_a_word(self):
        first, _ = create_run(resolved())
        first.record.write_text("")
        with pytest.raises(StorageError, match="no valid JSON"):
            create_run(resolved())
        assert create_run(resolved(), new=True)[1] == "created"

    def test_free_changes_are_written(self):
        first, _ = create_run(resolved())
        again = resolved(checkpoint__keep=9, logging__images=False)
        assert create_run(again) == (first, "continued")
        assert spec_from_file_resolved(first.spec) == again.spec

    @pytest.mark.parametrize("named", [False, True])
    def test_who_knows_that_the_spec_is_in_use_may_refuse_a_change(self, named):
        def in_use(paths):
            raise UsageError(f"{paths.root} is in use")

        first, _ = create_run(resolved())
        before = first.spec.read_text()
        where = first.root if named else None
        with pytest.raises(UsageError, match=f"{first.root} is in use"):
            create_run(resolved(checkpoint__keep=9), where, before_change=in_use)
        assert first.spec.read_text() == before
        assert create_run(resolved(), where, before_change=in_use) == (first, "continued")

    def test_fewer_epochs_are_a_new_run_more_continue(self):
        first, _ = create_run(resolved())
        assert create_run(resolved(training__phases__0__epochs=9)) == (first, "continued")
        assert spec_from_file_resolved(first.spec).training.phases[0].epochs == 9
        second, how = create_run(resolved(training__phases__0__epochs=4))
        assert how == "created" and second != first


CHANGES = {
    "number": {"training.seed": 5},
    "float": {"head.dropout": 0.125},
    "text": {"training.optimizer.name": "sgd"},
    "from none": {"training.early_stopping": {"metric": "val_loss", "patience": 2}},
    "list": {"head.hidden": [64, 32]},
    "phases added": {
        "training.phases": [
            {"name": "head", "epochs": 5, "learning_rate": 0.001},
            {"name": "more", "epochs": 2, "learning_rate": 1e-4},
        ]
    },
    "phase changed": {"training.phases.0.learning_rate": 0.5},
    "path": {"data.train": "/other/place with spaces"},
    "union": {"data.validation": "/data/val"},
    "duration": {"checkpoint.every": "50 steps"},
    "several": {"training.seed": 9, "training.batch_size": 64, "name": "2026"},
    "nothing": {},
}


@pytest.mark.parametrize("forwards", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_the_settings_of_a_fork_make_the_other_spec(tmp_path, change, forwards):
    old, new = resolved().spec, load_spec(SPEC, overrides=CHANGES[change]).spec
    if not forwards:
        old, new = new, old
    (tmp_path / "spec.yaml").write_text(dump_spec(old))
    made = load_spec(tmp_path / "spec.yaml", overrides=settings(old, new))
    assert made.spec == new
    assert bool(settings(old, new)) == bool(CHANGES[change])


@pytest.mark.parametrize(
    ("change", "can_continue", "can_fork", "words"),
    [
        ({"checkpoint.keep": 9}, True, True, "may change"),
        ({"training.phases.0.epochs": 9}, True, True, "asks for more"),
        ({"training.phases.0.epochs": 2}, False, True, "fewer epochs"),
        ({"training.seed": 9}, False, True, "needs a fork"),
        ({"head.dropout": 0.1}, False, True, "needs a fork"),
        ({"head.hidden": [3]}, False, False, "needs a new run"),
        ({"backbone.handle": "hub:/x"}, False, False, "needs a new run"),
        ({"training.optimizer.name": "sgd"}, False, False, "needs a new run"),
    ],
)
def test_what_a_difference_means(change, can_continue, can_fork, words):
    old, new = resolved().spec, load_spec(SPEC, overrides=change).spec
    comparison = compare(old, new)
    (one,) = comparison.differences
    assert (comparison.can_continue, comparison.can_fork) == (can_continue, can_fork)
    assert words in meaning(one)
