"""Finding and naming runs; broken ones are shown, never in the way."""

from __future__ import annotations

import json
import time

import pytest
from rights import need_root
from runs_helpers import as_nobody, finish, make_run, output_of, python

from harness.errors import StorageError, UsageError
from harness.runs.registry import find_runs, resolve_run, runs_root, summarize

IDS = ["20260101-000000-aaaa", "20260101-000001-bbbb", "20260202-000000-cccc"]


@pytest.mark.parametrize(
    ("flag", "variable", "config", "expected"),
    [
        ("/f", "/v", "/c", "/f"),
        (None, "/v", "/c", "/v"),
        (None, None, "/c", "/c"),
        (None, "", "/c", "/c"),
        (None, None, None, "<cwd>/runs"),
        ("rel", "/v", None, "<cwd>/rel"),
        ("~/r", None, None, "<home>/r"),
    ],
)
def test_precedence_of_the_root(tmp_path, monkeypatch, flag, variable, config, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/the/home")
    if variable is None:
        monkeypatch.delenv("HARNESS_RUNS_ROOT", raising=False)
    else:
        monkeypatch.setenv("HARNESS_RUNS_ROOT", variable)
    expected = expected.replace("<cwd>", str(tmp_path)).replace("<home>", "/the/home")
    assert str(runs_root(flag, config)) == expected


def test_newest_first_over_all_names(tmp_path):
    made = [make_run(tmp_path, name, i) for name, i in zip("bab", IDS, strict=True)]
    assert find_runs(tmp_path) == made[::-1]


def test_only_runs_are_found(tmp_path):
    run = make_run(tmp_path, "a", IDS[0])
    moved = make_run(tmp_path, "a", "my-best-run")
    direct = make_run(tmp_path.parent / tmp_path.name, ".", "direct")
    (tmp_path / "a" / "notes").mkdir()
    (tmp_path / "a" / "notes" / "deep").mkdir()
    (tmp_path / "a" / "notes" / "deep" / "run.json").write_text("{}")  # too deep
    (tmp_path / "a" / ".20260101-000000-dddd.moving.tmp").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "20260101-000000-eeee").symlink_to("nowhere")
    assert set(find_runs(tmp_path)) == {run, moved, direct}


def test_a_root_that_is_not_there_has_no_runs(tmp_path):
    assert find_runs(tmp_path / "none") == []


def test_a_root_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="file, not a directory"):
        find_runs(tmp_path / "file")


BROKEN = {
    "empty folder": (lambda p: p.record.unlink(), "run.json is missing"),
    "half-written record": (lambda p: p.record.write_text('{"run_id": "a'), "no valid JSON"),
    "zeroed by a power cut": (lambda p: p.record.write_bytes(b"\0" * 99), "no valid JSON"),
    "binary": (lambda p: p.record.write_bytes(b"\xff\xfe"), "no valid JSON"),
    "a list": (lambda p: p.record.write_text("[]"), "is no run record"),
    "newer": (lambda p: p.record.write_text('{"harness_run": 9}'), "another version"),
    "record is a folder": (lambda p: (p.record.unlink(), p.record.mkdir()), "directory stands"),
    "broken heartbeat": (lambda p: p.heartbeat.write_text("{"), "heartbeat.json"),
    "time is a number": (
        lambda p: (p.attempts.write_text('{"attempt": 1}'), p.heartbeat.write_text('{"time": 3}')),
        "no harness's",
    ),
    "attempts is a folder": (lambda p: p.attempts.mkdir(), "attempts.jsonl"),
    "lock is a folder": (lambda p: p.lock.mkdir(), r"\.lock"),
    "lock holds rubbish": (lambda p: p.lock.write_bytes(b"\xff"), None),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_run_is_shown_with_its_reason_and_the_others_too(tmp_path, case):
    import re

    good, bad = make_run(tmp_path, "a", IDS[0]), make_run(tmp_path, "a", IDS[1])
    harm, reason = BROKEN[case]
    harm(bad)
    rows = [summarize(run) for run in find_runs(tmp_path)]
    assert [row.run_id for row in rows] == [bad.root.name, good.root.name]
    assert rows[1].state == "new"
    if reason is None:
        assert rows[0].state == "new"
    else:
        assert rows[0].state == "broken" and re.search(reason, rows[0].reason)
    assert json.loads(json.dumps(rows[0].as_json()))["path"] == str(bad.root)


def test_somebody_elses_private_runs_are_shown_as_not_readable(open_root):
    make_run(open_root, "a", IDS[0])
    mine = open_root / "b"
    mine.mkdir()
    (open_root / "a").chmod(0o755)
    told = as_nobody(
        lambda: [(row.state, row.reason) for row in map(summarize, find_runs(open_root))]
    )
    assert "broken" in told and "not permitted" in told
    (open_root / "a").chmod(0o700)
    told = as_nobody(
        lambda: [(row.path, row.state) for row in map(summarize, find_runs(open_root))]
    )
    assert told == str([(str(open_root / "a"), "broken")])


@pytest.fixture
def open_root():
    import tempfile
    from pathlib import Path

    need_root()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class TestResolve:
    @pytest.fixture
    def root(self, tmp_path):
        for name, run_id in zip("xyx", IDS, strict=True):
            make_run(tmp_path, name, run_id)
        return tmp_path

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (IDS[1], IDS[1]),
            ("20260202", IDS[2]),
            ("20260101-000001", IDS[1]),
            ("x", IDS[2]),
            ("y", IDS[1]),
            (f"y/{IDS[1]}", IDS[1]),
        ],
    )
    def test_by_id_beginning_name(self, root, text, expected):
        assert resolve_run(text, root).root.name == expected

    def test_by_path_wherever_it_is(self, root, tmp_path, monkeypatch):
        elsewhere = make_run(tmp_path / "else", "q", IDS[0])
        monkeypatch.chdir(elsewhere.root)
        assert resolve_run(".", root) == elsewhere
        assert resolve_run(elsewhere.root, root) == elsewhere

    def test_by_what_the_record_says(self, root):
        (root / "x" / IDS[0]).rename(root / "x" / "best")
        (root / "y").rename(root / "renamed")
        assert resolve_run(IDS[0], root).root.name == "best"
        assert resolve_run("y", root).root.name == IDS[1]

    def test_a_name_wins_over_a_beginning(self, root):
        make_run(root, "2026", "20270101-000000-dddd")
        assert resolve_run("2026", root).root.name == "20270101-000000-dddd"

    def test_ambiguous(self, root):
        with pytest.raises(UsageError, match=r"2 runs are named so.*aaaa") as caught:
            resolve_run("20260101", root)
        assert caught.value.problems[0].action

    @pytest.mark.parametrize("text", ["", "none", "zzz/20260101", "/does/not/exist"])
    def test_unknown_names_what_there_is(self, root, text):
        with pytest.raises(UsageError, match=f"names in {root}: x, y"):
            resolve_run(text, root)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(UsageError, match="has no runs"):
            resolve_run("x", tmp_path / "none")


COUNT = """
    import sys
    from harness.runs.registry import find_runs, summarize

    root, opened = sys.argv[1], []

    def count(event, args):
        if event in ("open", "os.listdir", "os.scandir") and str(args[0]).startswith(root):
            opened.append(args[0])

    from pathlib import Path
    sys.addaudithook(count)
    runs = find_runs(Path(root))
    found = len(opened)
    rows = [summarize(run) for run in runs]
    print(len(rows), found, len(opened) - found, *sorted({row.state for row in rows}))
    print("tensorflow" in sys.modules, "numpy" in sys.modules, "pydantic" in sys.modules)
"""


def test_a_thousand_runs_open_few_files(tmp_path):
    for name in range(10):
        for number in range(100):
            paths = make_run(tmp_path, f"n{name}", f"20260101-{number:06d}-aa{name:02d}")
            finish_cheaply(paths)
    counted, modules = output_of(python(COUNT, tmp_path)).splitlines()
    runs, finding, reading, states = counted.split()
    assert (runs, states) == ("1000", "finished")
    assert int(finding) <= 1 + 10  # the root and each name's folder, no run
    assert int(reading) <= 3 * 1000  # run.json, the folder's names, FINISHED
    assert modules == "False False False"


def finish_cheaply(paths):
    """As `finish` would leave it, without the syncs."""
    paths.finished.write_text('{"time": "2026-11-22T01:33:55Z", "step": 5, "total_steps": 5}')
    paths.attempts.write_text('{"attempt": 1, "event": "begin"}\n{"attempt": 1, "event": "end"}\n')


def test_a_row_carries_the_final_figures(tmp_path):
    best = {"metric": "val_accuracy", "step": 4, "value": 0.75}
    paths = make_run(tmp_path, best=best, final={"test_accuracy": 0.5})
    finish(paths, step=12)
    row = summarize(paths).as_json()
    assert row["final"] == {"test_accuracy": 0.5} and row["best"] == best
    assert (row["state"], row["step"], row["total_steps"], row["attempt"]) == (
        "finished",
        12,
        12,
        1,
    )
    assert row["updated"] >= time.strftime("%Y")
