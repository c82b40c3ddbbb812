"""Goodput, time left, heartbeat and progress, on a clock that the test moves."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pty
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.observe import Eta, Goodput, Heartbeat, Progress
from harness.observe.goodput import KINDS
from harness.observe.progress import is_plain
from harness.runs.heartbeat import read_heartbeat
from harness.runs.paths import RunPaths


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_time_belongs_to_the_kind_it_passed_in():
    clock = Clock()
    goodput = Goodput(clock=clock)
    clock.now += 4
    assert goodput.switch("train") == "startup"
    clock.now += 10
    with goodput.during("checkpoint"):
        clock.now += 1
        with goodput.during("idle"):
            clock.now += 2
        assert goodput.kind == "checkpoint"
    clock.now += 3
    seconds = goodput.seconds()
    assert {kind: value for kind, value in seconds.items() if value} == {
        "startup": 4.0,
        "train": 13.0,
        "checkpoint": 1.0,
        "idle": 2.0,
    }
    assert goodput.shares()["train"] == pytest.approx(13 / 20)


def test_an_error_inside_still_ends_the_kind():
    goodput = Goodput("train", clock=Clock())
    with pytest.raises(RuntimeError), goodput.during("validate"):
        raise RuntimeError
    assert goodput.kind == "train"


def test_time_measured_elsewhere_is_moved_but_never_more_than_there_is():
    clock = Clock()
    goodput = Goodput("train", clock=clock)
    clock.now += 10
    goodput.move(3, source="train", target="input_wait")
    assert (goodput.seconds()["train"], goodput.seconds()["input_wait"]) == (7, 3)
    goodput.move(100, source="train", target="input_wait")
    assert (goodput.seconds()["train"], goodput.seconds()["input_wait"]) == (0, 10)
    with pytest.raises(ValueError):
        goodput.move(-1, source="train", target="idle")


def test_before_any_time_has_passed_all_shares_are_zero():
    assert set(Goodput(clock=Clock()).shares().values()) == {0.0}


@pytest.mark.parametrize("call", ["switch", "during", "init", "source", "target"])
def test_an_unknown_kind_is_refused(call):
    goodput = Goodput(clock=Clock())
    calls = {
        "switch": lambda: goodput.switch("sleep"),
        "during": lambda: goodput.during("sleep").__enter__(),
        "init": lambda: Goodput("sleep"),
        "source": lambda: goodput.move(0, source="sleep", target="idle"),
        "target": lambda: goodput.move(0, source="idle", target="sleep"),
    }
    with pytest.raises(ValueError, match=r"one of startup.*'sleep'"):
        calls[call]()


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0, 1e6)), max_size=30))
def test_the_kinds_always_add_up_to_the_time_that_passed(course):
    clock = Clock()
    goodput = Goodput(clock=clock)
    for kind, seconds in course:
        goodput.switch(kind)
        clock.now += seconds
        goodput.move(seconds / 3, source=kind, target="input_wait")
    total = clock.now - 1000
    assert math.isclose(sum(goodput.seconds().values()), total, abs_tol=1e-6)
    assert math.isclose(sum(goodput.shares().values()), 1 if total else 0, abs_tol=1e-9)
    assert min(goodput.seconds().values()) >= 0


def test_time_left_follows_the_pace_and_counts_pauses():
    clock = Clock()
    eta = Eta(clock=clock)
    assert eta.seconds_left(100) is None
    eta.seen(0)
    assert eta.seconds_left(100) is None
    for step in range(10, 51, 10):
        clock.now += 5
        eta.seen(step)
    assert eta.steps_per_s() == pytest.approx(2)
    assert eta.seconds_left(100) == pytest.approx(25)
    clock.now += 25  # a validation
    eta.seen(60)
    assert eta.steps_per_s() == pytest.approx(60 / 50)


def test_time_left_forgets_a_slow_beginning():
    clock = Clock()
    eta = Eta(window_s=60, clock=clock)
    eta.seen(0)
    clock.now += 300
    eta.seen(10)
    for step in range(20, 1300, 10):
        clock.now += 1
        eta.seen(step)
    assert eta.steps_per_s() == pytest.approx(10, rel=0.01)


def test_time_left_starts_over_after_a_rollback_and_never_goes_below_zero():
    clock = Clock()
    eta = Eta(clock=clock)
    for step in (0, 50, 100):
        eta.seen(step)
        clock.now += 1
    assert eta.seconds_left(90) == 0
    eta.seen(20)
    assert eta.steps_per_s() is None


def test_time_left_survives_a_clock_that_stands_still():
    eta = Eta(clock=Clock())
    for step in range(5):
        eta.seen(step)
    assert eta.seconds_left(10) is None


@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=30))
def test_time_left_keeps_few_points_however_short_the_steps(pauses):
    clock = Clock()
    eta = Eta(window_s=30, clock=clock)
    for step, pause in enumerate(pauses * 100):
        clock.now += pause
        eta.seen(step)
    assert len(eta._seen) < 40


def test_the_heart_beats_at_most_every_few_seconds(tmp_path):
    paths = RunPaths.create(tmp_path / "run", "private")
    clock = Clock()
    heart = Heartbeat(paths, 3, every_s=5, clock=clock)
    assert heart.beat(step=1, loss=0.5)
    clock.now += 4.9
    assert not heart.beat(step=2, loss=0.5)
    assert heart.beat(now=True, step=3, loss=math.nan)
    clock.now += 4.9
    assert not heart.beat(step=4, loss=0.5)
    beat = read_heartbeat(paths)
    assert (beat["attempt"], beat["step"], beat["loss"]) == (3, 3, None)
    clock.now += 0.2
    assert heart.beat(step=5) and read_heartbeat(paths)["step"] == 5


def run_plain(clock, out, *, epochs=3, per_epoch=10, step_s=0.5, **options) -> None:
    """A training of a few epochs, shown in lines."""
    progress = Progress(epochs * per_epoch, out=out, clock=clock, **options)
    progress.phase("head", 0, epochs * per_epoch)
    for step in range(1, epochs * per_epoch + 1):
        clock.now += step_s
        progress.update(step, epoch=(step - 1) // per_epoch, examples_per_s=812.4, loss=1 / step)
    progress.say("best is step 30")
    progress.close()
    progress.close()


def test_lines_come_at_most_every_ten_seconds_and_at_the_end_of_each_epoch():
    out = io.StringIO()
    run_plain(Clock(), out, per_epoch=50)
    shown = out.getvalue().splitlines()
    assert shown[0] == "phase head: steps 0 to 150"
    steps = [int(line.split("/")[0].removeprefix("step ")) for line in shown if "/150" in line]
    assert steps == [1, 21, 41, 50, 71, 91, 100, 121, 141, 150]
    assert shown[-2] == "best is step 30"


def test_a_line_tells_step_share_phase_epoch_loss_speed_and_time_left():
    out = io.StringIO()
    clock = Clock()
    with Progress(1000, out=out, clock=clock) as progress:
        progress.phase("head", 0, 1000)
        for step in (100, 200):
            clock.now += 10
            progress.update(
                step, epoch=1, examples_per_s=812.4, loss=0.51239, extra={"wait": 0.25, "a": "b"}
            )
    assert out.getvalue().splitlines()[-1] == (
        "step 200/1000 (20%)  head  epoch 2  loss 0.5124  wait 0.25  a b  812 images/s  80 s left"
    )


@pytest.mark.parametrize("plain", [True, False, None])
def test_quiet_prints_nothing(plain):
    out = io.StringIO()
    run_plain(Clock(), out, plain=plain, quiet=True)
    assert out.getvalue() == ""


def test_odd_figures_are_shown_as_they_are():
    out = io.StringIO()
    progress = Progress(0, out=out, unit="clips")
    progress.update(0, epoch=0, examples_per_s=math.inf, loss=math.nan)
    progress.close()
    assert out.getvalue() == "step 0/0 (-)  epoch 1  loss nan\n"


class Gone(io.StringIO):
    """A terminal that went away."""

    def write(self, text):
        raise OSError(5, "Input/output error")


def test_a_terminal_that_went_away_does_not_end_the_training():
    run_plain(Clock(), Gone())
    closed = io.StringIO()
    closed.close()
    run_plain(Clock(), closed)


def test_a_stream_that_knows_no_unicode_gets_question_marks():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    progress = Progress(2, out=out)
    progress.phase("Köpfe", 0, 2)
    progress.update(1, epoch=0)
    progress.close()
    assert b"K?pfe" in raw.getvalue()


def read_all(descriptor: int, pieces: list[bytes]) -> None:
    """Reads what comes out of a terminal until its other end is closed."""
    with contextlib.suppress(OSError):  # EIO is how Linux says that it is closed
        while piece := os.read(descriptor, 4096):
            pieces.append(piece)


def on_terminal(monkeypatch, **options) -> str:
    """What a training shows on a terminal of its own."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    master, slave = pty.openpty()
    pieces: list[bytes] = []
    reader = threading.Thread(target=read_all, args=(master, pieces))
    reader.start()
    with os.fdopen(slave, "w") as out:
        assert not is_plain(out)
        run_plain(Clock(), out, **options)
    reader.join(timeout=10)
    os.close(master)
    return b"".join(pieces).decode()


def test_a_terminal_gets_a_bar_with_loss_speed_and_time_left(monkeypatch):
    text = on_terminal(monkeypatch)
    assert "30/30" in text and "epoch 3" in text and "812 images/s" in text and "left" in text
    assert "best is step 30" in text
    assert "\x1b[?25h" in text, "the cursor must be shown again"


def test_plain_on_a_terminal_gives_lines(monkeypatch):
    assert "\x1b" not in on_terminal(monkeypatch, plain=True)


@pytest.mark.parametrize("name", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch, name):
    monkeypatch.setenv("TERM", name or "dumb")
    if not name:
        monkeypatch.delenv("TERM")
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as out:
        assert is_plain(out)
    os.close(master)
