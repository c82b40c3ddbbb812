"""The benches: rows of the promised form, measured alternately, judged the right way round."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import p09_checkpoints, p12_lost_work, run  # noqa: E402 - from the checkout, it is not installed
from benchmarks.p12_lost_work import Lost, lost_work, moments  # noqa: E402
from benchmarks.rows import Row, compare  # noqa: E402

KEYS = "id, work, peer, ours, theirs, ratio, target, better, ok, spread, note"


def row(ours: float, theirs: float, target: float, better: str) -> Row:
    return Row("P0", "work", "peer", ours, theirs, target, better, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "theirs", "target", "better", "ok"),
    [
        (1.0, 2.0, 0.5, "lower", True),
        (1.1, 2.0, 0.5, "lower", False),
        (4.0, 2.0, 2.0, "higher", True),
        (3.9, 2.0, 2.0, "higher", False),
    ],
)
def test_a_row_is_judged(ours: float, theirs: float, target: float, better: str, ok: bool) -> None:
    assert row(ours, theirs, target, better).ok is ok


def test_a_row_has_the_promised_keys() -> None:
    assert ", ".join(row(1.0, 2.0, 1.0, "lower").to_json()) == KEYS


def test_both_sides_are_measured_in_turn_and_the_first_is_not_counted() -> None:
    calls = []
    ours = iter([99.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    theirs = iter([99.0, 10.0, 10.0, 10.0, 10.0, 20.0])

    def ask(name: str, values):
        calls.append(name)
        return next(values)

    result = compare(lambda: ask("a", ours), lambda: ask("b", theirs))
    assert result == (3.0, 10.0, pytest.approx(4 / 3))
    assert calls == ["a", "b"] * 6


def test_too_few_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="5 or more"):
        compare(lambda: 1.0, lambda: 1.0, repeats=4)


def test_the_runner_writes_rows_and_reports_a_missed_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = type(sys)("benchmarks.p99_two")
    module.rows = lambda: iter([row(1.0, 2.0, 1.0, "lower"), row(3.0, 2.0, 1.0, "lower")])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(run, "benches", lambda: {"P99": module.__name__})
    out = tmp_path / "made" / "bench.json"
    assert run.main(["--only", "p99", "--out", str(out)]) == 1
    assert [one["ok"] for one in json.loads(out.read_text())] == [True, False]
    assert "<= 1" in capsys.readouterr().out


def test_an_unknown_bench_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--only", "P98"])
    assert "P10" in capsys.readouterr().err


def test_a_save_is_held_against_the_cadence_a_memcpy_and_dd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took = {
        "held": [9.0, 0.3, 0.3, 0.3],
        "fresh": [9.0, 0.2, 0.2, 0.2],
        "touched": [9.0, 0.1, 0.1, 0.1],
        "committed": [9.0, 2.0, 2.0, 2.0],
        "dd": [9.0, 1.0, 1.0, 1.0],
    }
    found = {"bytes": 300_000_000, "arrays": 7, "took": took}
    monkeypatch.setattr(p09_checkpoints, "measure", lambda name, saves: found)
    rows = list(p09_checkpoints.rows())
    assert [one.id for one in rows] == ["P9"] * 6
    assert [one.ratio for one in rows[:3]] == pytest.approx([0.005, 1.5, 0.5])
    assert [one.ok for one in rows[:3]] == [True, True, False]
    assert rows[1].note.startswith("3.00 times")
    assert (rows[2].ours, rows[2].theirs) == (150, 300)


def line(step: int, second: int, attempt: int = 1) -> dict[str, object]:
    return {"step": step, "time": f"2026-11-28T04:10:{second:02d}.000Z", "attempt": attempt}


def test_lost_is_what_has_to_be_done_again() -> None:
    killed = [line(step, 2 * step) for step in range(1, 11)]
    assert lost_work(killed, [line(8, 50, 2), line(9, 51, 2)]) == Lost(3, 6.0)
    assert lost_work(killed, [line(11, 50, 2)]) == Lost(0, 0.0)


def test_kills_are_spread_evenly_over_the_interval_in_a_fixed_order() -> None:
    found = moments(20)
    assert [int(20 * moment) for moment in sorted(found)] == list(range(20))
    assert found == moments(20)
    assert found != sorted(found)


def test_a_line_that_a_kill_has_cut_short_is_not_the_newest(tmp_path: Path) -> None:
    metrics = tmp_path / p12_lost_work.METRICS
    assert p12_lost_work._newest(tmp_path) == 0
    metrics.write_text('{"attempt": 3}\n{"attem')
    assert p12_lost_work._newest(tmp_path) == 3


def test_the_mean_of_all_kills_is_held_against_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(p12_lost_work, "measure", lambda kills: [Lost(10, 1.0), Lost(30, 3.0)])
    (only,) = p12_lost_work.rows()
    assert (only.id, only.ratio, only.ok) == ("P12", 0.4, True)
    assert "30 steps" in only.note
