"""The verbs list, status, diff and move, as a user calls them."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pty
import shlex

import pytest
from runs_helpers import (
    SPEC,
    bare_user,
    fail,
    finish,
    holding_child,
    make_run,
    output_of,
    python,
    resolved,
    stop,
)

from harness.errors import StorageError, UsageError
from harness.runs.attempts import begin_attempt, end_attempt
from harness.runs.create import create_run
from harness.runs.heartbeat import write_heartbeat
from harness.runs.record import update_record
from harness.spec import dump_spec, load_spec

__all__ = ["bare_user"]  # a fixture, found by its name

IDS = ["20260101-000000-aaaa", "20260101-000001-bbbb", "20260202-000000-cccc"]


@pytest.fixture
def call(capsys):
    """Calls a verb; returns its exit code and what it printed."""

    def run(verb: str, *words: object) -> tuple[int, str]:
        module = importlib.import_module(f"harness.cli.{verb}")
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        code = module.run(parser.parse_args([str(word) for word in words]))
        return int(code), capsys.readouterr().out

    return run


class TestList:
    def test_no_runs(self, call, tmp_path):
        assert call("list") == (0, f"no runs in {tmp_path}/runs\n")
        assert call("list", "--json") == (0, "[]\n")

    def test_rows_newest_first_with_what_matters(self, call, tmp_path):
        done = make_run(
            tmp_path / "runs", "a", IDS[0], final={"val_loss": 1, "test_accuracy": 0.87}
        )
        finish(done, step=120)
        bad = make_run(tmp_path / "runs", "a", IDS[1])
        bad.record.write_text("{")
        make_run(
            tmp_path / "runs", "b", IDS[2], best={"metric": "val_accuracy", "step": 1, "value": 0.5}
        )
        code, text = call("list")
        head, *lines = text.splitlines()
        assert code == 0 and head.split() == ["RUN", "NAME", "STATE", "STEP", "METRIC", "UPDATED"]
        assert lines[0].split()[:5] == [IDS[2], "b", "new", "val_accuracy", "0.5"]
        assert lines[1].split()[:3] == [IDS[1], "a", "broken"] and "no valid JSON" in lines[1]
        assert lines[2].split()[:6] == [IDS[0], "a", "finished", "120/120", "test_accuracy", "0.87"]
        rows = json.loads(call("list", "--json")[1])
        assert [row["state"] for row in rows] == ["new", "broken", "finished"]
        assert rows[2]["final"]["test_accuracy"] == 0.87 and rows[2]["path"] == str(done.root)
        assert rows[1]["reason"]

    def test_another_root(self, call, tmp_path):
        make_run(tmp_path / "other", "a", IDS[0])
        assert IDS[0] in call("list", "--runs-root", tmp_path / "other")[1]
        assert IDS[0] not in call("list")[1]

    def test_a_terminal_gets_a_table_and_a_name_is_no_markup(self, tmp_path):
        make_run(tmp_path, "[red]x", IDS[0])
        code = """
            import argparse, sys
            from harness.cli import list
            parser = argparse.ArgumentParser()
            list.add_arguments(parser)
            list.run(parser.parse_args(["--runs-root", sys.argv[1]]))
        """
        reading, writing = pty.openpty()
        child = python(code, tmp_path, stdout=writing)
        os.close(writing)
        text = b""
        try:
            while chunk := os.read(reading, 4096):
                text += chunk
        except OSError:
            pass  # a closed terminal ends with EIO, not with an empty read
        os.close(reading)
        assert child.wait() == 0
        assert b"[red]x" in text and b"ago" in text and b"\x1b[" in text
        plain = output_of(python(code, tmp_path))
        assert "\x1b" not in plain and "ago" not in plain


class TestStatus:
    @pytest.mark.parametrize(
        ("outcome", "code", "words"),
        [
            ("refused", 2, "the spec or the command refused the last attempt; the same command"),
            ("refused", 3, "the machine refused the last attempt; the same command tries again"),
            ("refused", 4, "the data refused the last attempt; the same command tries again"),
            ("refused", 5, "the storage refused the last attempt; the same command tries again"),
            ("requeue", 75, "stopped before its next save; the same command continues"),
        ],
    )
    def test_what_is_not_saved_is_not_said_to_be(self, call, outcome, code, words):
        paths, _ = create_run(resolved())
        why = "no such folder"
        end_attempt(paths, begin_attempt(paths, {}), outcome, 0, 0, why, exit_code=code)
        text = call("status", paths.root)[1]
        assert words in text and why in text and "is saved" not in text
        facts = json.loads(call("status", paths.root, "--json")[1])
        assert (facts["state"], facts["attempts"][-1]["exit_code"]) == ("stopped", code)

    def test_of_each_state(self, call, tmp_path):
        paths, _ = create_run(resolved())
        assert "has been created and no attempt has begun" in call("status", "textures")[1]
        stop(paths)
        assert "has stopped and is saved; the same command" in call("status", paths.root.name)[1]
        begin_attempt(paths, {})
        assert "was interrupted" in call("status", paths.root)[1]
        fail(paths)
        text = call("status", paths.root)[1]
        assert "has failed: loss is NaN" in text
        assert f"`--run-dir {paths.root}` continues it; without, it begins a new run" in text
        assert "--new is not needed" in text
        update_record(paths, final={"test_accuracy": 0.875})
        finish(paths, step=90)
        code, text = call("status", paths.root)
        assert code == 0 and "is finished. Step 90 of 90 (100%)" in text
        assert "test_accuracy 0.875" in text and str(paths.root) in text

    def test_of_a_running_one(self, call):
        paths, _ = create_run(resolved())
        begin_attempt(paths, {})
        update_record(
            paths,
            parent={"run_id": "p", "path": "/p", "step": 5, "checkpoint": "x"},
            exact=False,
            not_exact_because=["callback Mine has no state"],
            rollbacks=[{"step": 9, "to_step": 8, "rate_scale": 0.5, "time": "t"}],
        )
        write_heartbeat(
            paths, attempt=1, step=30, total_steps=120, phase="head", epoch=2, loss=0.5,
            examples_per_s=812.3, eta_s=600,
        )  # fmt: skip
        child = holding_child(paths)
        try:
            _, text = call("status", "textures")
            facts = json.loads(call("status", "textures", "--json")[1])
        finally:
            child.kill()
            child.communicate()
        for words in (
            f"is running: process {child.pid} on host",
            "Step 30 of 120 (25%), epoch 2 of phase head, attempt 1.",
            "Loss 0.5, 812 examples/s, about 10 min left, last sign of life 0 s ago.",
            "forked from p at step 5.",
            "It went back once from step 9 to step 8, where a value was not finite; learning rates "
            "are 0.5 of the spec's since.",
            "not exact: callback Mine has no state.",
        ):
            assert words in text
        assert facts["state"] == "running" and facts["heartbeat"]["loss"] == 0.5
        assert facts["attempts"][0]["number"] == 1 and facts["parent"]["run_id"] == "p"

    def test_of_a_broken_one(self, call, tmp_path):
        paths = make_run(tmp_path / "runs", "a", IDS[0])
        paths.record.write_text("{")
        with pytest.raises(StorageError, match="no valid JSON"):
            call("status", IDS[0])


class TestDiff:
    @pytest.fixture
    def spec(self, tmp_path):
        create_run(resolved())

        def write(**overrides):
            file = tmp_path / "job.yaml"
            file.write_text(dump_spec(load_spec(SPEC, overrides=overrides).spec))
            return file

        return write

    def test_equal(self, call, spec):
        assert call("diff", "textures", spec()) == (
            0,
            "the specs are equal; the run can be continued\n",
        )

    def test_what_may_change(self, call, spec):
        code, text = call("diff", "textures", spec(), "-o", "checkpoint.keep=9")
        assert code == 0 and "checkpoint.keep: 3 -> 9  [free] may change" in text
        assert text.endswith("the run can be continued with this spec\n")

    def test_what_needs_a_fork(self, call, spec):
        code, text = call("diff", "textures", spec(**{"training.seed": 4}))
        assert code == 2 and "training.seed: 1 -> 4  [never] fixed for the whole run" in text
        assert shlex.split(text.splitlines()[-1])[-1] == "training.seed=4"

    def test_what_needs_a_new_run(self, call, spec):
        code, text = call("diff", "textures", spec(**{"head.hidden": [7]}))
        assert code == 2 and text.endswith("start a new run\n") and "harness fork" not in text

    def test_json(self, call, spec):
        file = spec(**{"training.seed": 4, "training.phases.0.epochs": 9})
        code, text = call("diff", "textures", file, "--json")
        found = json.loads(text)
        assert code == 2 and not found["can_continue"] and found["can_fork"]
        assert [(d["path"], d["old"], d["new"], d["resume"]) for d in found["differences"]] == [
            ("training.seed", 1, 4, "never"),
            ("training.phases.0.epochs", 5, 9, "extend"),
        ]
        assert found["fork_command"].startswith("harness fork ")


class TestMove:
    def test_and_found_again(self, call, tmp_path):
        paths, _ = create_run(resolved())
        code, text = call("move", "textures", tmp_path / "archive")
        assert code == 0 and text == f"{paths.root} -> {tmp_path}/archive (renamed)\n"
        assert "no attempt has begun" in call("status", tmp_path / "archive")[1]
        assert create_run(resolved(), tmp_path / "archive")[1] == "continued"

    def test_relative_to_here(self, call, tmp_path):
        create_run(resolved())
        call("move", "textures", "archive")
        assert (tmp_path / "archive" / "run.json").exists()

    def test_refused(self, call, tmp_path):
        create_run(resolved())
        with pytest.raises(UsageError, match="there already"):
            call("move", "textures", tmp_path)


def test_list_imports_nothing_heavy(tmp_path):
    for number in range(30):
        make_run(tmp_path, "n", f"20260101-{number:06d}-aaaa")
    code = """
        import argparse, sys
        from harness.cli import list
        parser = argparse.ArgumentParser()
        list.add_arguments(parser)
        list.run(parser.parse_args(["--runs-root", sys.argv[1]]))
        heavy = ("tensorflow", "numpy", "pydantic", "ruamel", "rich")
        print([name for name in heavy if name in sys.modules])
    """
    lines = output_of(python(code, tmp_path)).splitlines()
    assert len(lines) == 32 and lines[-1] == "[]"
