"""Checkpoints that are written while training goes on: their order, their errors, their end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoint.background import Background
from harness.checkpoint.snapshot import Snapshot
from harness.checkpoint.store import Store
from harness.errors import StorageError


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, said: list[str]) -> Store:
    return Store(tmp_path / "checkpoints", keep=2, access="private", log=said.append)


class Gate:
    """Holds commits back until it is opened, and fails those of some steps."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.begun = threading.Event(), threading.Event()
        self.broken: dict[int, BaseException] = {}
        commit = store.commit

        def held(snapshot: Snapshot) -> Path:
            self.begun.set()
            assert self.opened.wait(60)
            if snapshot.step in self.broken:
                raise self.broken[snapshot.step]
            return commit(snapshot)

        monkeypatch.setattr(store, "commit", held)


@pytest.fixture
def gate(store: Store, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(store, monkeypatch)


@pytest.fixture
def background(store: Store, said: list[str]) -> Background:
    return Background(store, said.append)


def steps(store: Store) -> list[int]:
    return [one.step for one in store.list()]


def test_the_loop_goes_on_while_one_is_written(
    background: Background, store: Store, gate: Gate
) -> None:
    done: list[int] = []
    background.save(3, {}, {"at": 3}, then=lambda: done.append(3))
    assert gate.begun.wait(60)
    background.check()
    assert (steps(store), done) == ([], [])
    gate.opened.set()
    background.settle()
    assert (steps(store), done) == ([3], [3])
    background.settle()
    background.check()
    assert done == [3]


def test_they_are_written_in_their_order_one_at_a_time(
    background: Background, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, most = [0], [0]
    commit = store.commit

    def counted(snapshot: Snapshot) -> Path:
        together[0] += 1
        most[0] = max(most[0], together[0])
        try:
            return commit(snapshot)
        finally:
            together[0] -= 1

    monkeypatch.setattr(store, "commit", counted)
    seen: list[tuple[int, list[int]]] = []

    def note(step: int) -> Callable[[], None]:
        return lambda: seen.append((step, steps(store)))

    for step in range(1, 6):
        background.save(step, {}, {"at": step}, then=note(step))
    background.settle()
    assert seen == [(1, [1]), (2, [1, 2]), (3, [2, 3]), (4, [3, 4]), (5, [4, 5])]
    assert most == [1]


@pytest.mark.parametrize(
    "later",
    [
        lambda background: background.settle(),
        lambda background: background.save(4, {}, {}),
        lambda background: background.restore(),
        lambda background: _wait(background),
    ],
    ids=["settle", "save", "restore", "check"],
)
def test_what_went_wrong_is_raised_where_it_is_next_asked_for(
    background: Background, store: Store, gate: Gate, later: Callable[[Background], Any]
) -> None:
    done: list[int] = []
    gate.broken[3] = StorageError("no space left", action="make room")
    gate.opened.set()
    background.save(3, {}, {}, then=lambda: done.append(3))
    with pytest.raises(StorageError, match="no space left"):
        later(background)
    assert (steps(store), done) == ([], [])
    background.settle()  # it is told once
    background.save(5, {}, {})
    background.settle()
    assert steps(store) == [5]


def _wait(background: Background) -> None:
    for _ in range(6000):
        background.check()
        threading.Event().wait(0.01)
    raise AssertionError("check never told of it")


def test_what_goes_on_changing_is_saved_as_it_was(
    background: Background, store: Store, gate: Gate
) -> None:
    state, metrics = {"callbacks": {"calls": [1, 2]}}, {"loss": 1.0}
    background.save(1, {}, state, metrics=metrics)
    state["callbacks"]["calls"].append(3)
    metrics["loss"] = 2.0
    gate.opened.set()
    restored = background.restore()
    assert restored is not None
    assert restored.state == {"callbacks": {"calls": [1, 2]}}
    assert restored.metrics == {"loss": 1.0}


def test_what_could_not_come_back_is_refused(background: Background, store: Store) -> None:
    background.save(1, {}, {"at": object()})
    with pytest.raises(TypeError):
        background.settle()
    assert steps(store) == []


def test_a_restore_has_what_was_saved_last(background: Background, gate: Gate) -> None:
    background.save(7, {}, {"at": 7})
    assert gate.begun.wait(60)
    threading.Timer(0.1, gate.opened.set).start()
    restored = background.restore()
    assert restored is not None
    assert (restored.step, restored.state) == (7, {"at": 7})


def test_a_wait_that_is_interrupted_is_taken_up_again(
    background: Background, store: Store, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    background.save(1, {}, {})
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            background.settle()
    threading.Timer(0.1, gate.opened.set).start()
    background.close()
    assert steps(store) == [1]


def test_the_end_waits_and_tells(
    background: Background, store: Store, gate: Gate, said: list[str]
) -> None:
    background.save(1, {}, {})
    threading.Timer(0.1, gate.opened.set).start()
    background.close()
    assert steps(store) == [1]
    gate.broken[2] = StorageError("over quota", action="make room")
    background.save(2, {}, {})
    background.close()
    assert len(said) == 1
    assert "over quota" in said[0]
    background.close()
    assert len(said) == 1
