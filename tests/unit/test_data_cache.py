"""What is kept of decoded examples, in memory and on disk."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.cache import DecodedCache, InMemory, OnDisk, Store

KINDS = ["memory", "disk"]


def store(kind: str, folder: Path) -> Store:
    return InMemory() if kind == "memory" else OnDisk(folder)


def taken(cache: DecodedCache, *rows: int) -> list[bytes]:
    return list(cache.take(np.array(rows)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_comes_back(kind: str, tmp_path: Path) -> None:
    cache = DecodedCache(store(kind, tmp_path), 1 << 20)
    cache.begin(8)
    cache.keep(7, b"seven")
    cache.keep(3, b"\0" * 5000)
    cache.keep(7, b"again")
    assert taken(cache, 3, 4, 7) == [b"\0" * 5000, b"", b"seven"]
    assert len(cache) == 2
    assert not cache.full


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_begins_anew(kind: str, tmp_path: Path) -> None:
    cache = DecodedCache(store(kind, tmp_path), 600)
    cache.begin(8)
    cache.keep(1, b"x" * 200)
    cache.keep(2, b"x" * 200)
    assert cache.full
    cache.begin(8)
    assert taken(cache, 1) == [b"x" * 200]
    cache.begin(16)
    assert (len(cache), cache.bytes, cache.full, taken(cache, 1)) == (0, 0, "", [b""])
    cache.keep(1, b"other")
    assert taken(cache, 1) == [b"other"]


@given(sizes=st.lists(st.integers(0, 900), max_size=30), room=st.integers(0, 6000))
def test_no_more_than_the_room_is_taken(sizes: list[int], room: int) -> None:
    cache = DecodedCache(InMemory(), room)
    for row, size in enumerate(sizes):
        cache.keep(row, bytes([row]) * size)
    assert cache.bytes <= room
    assert bool(cache.full) == (len(cache) < len(sizes))
    found = taken(cache, *range(len(sizes)))
    assert found[: len(cache)] == [bytes([row]) * sizes[row] for row in range(len(cache))]
    assert not any(found[len(cache) :])


def test_a_file_has_no_name_and_leaves_nothing(tmp_path: Path) -> None:
    on_disk = OnDisk(tmp_path)
    number = on_disk.add(b"something")
    assert on_disk.get(number) == b"something"
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_what_was_kept_stays(tmp_path: Path) -> None:
    def keep_all() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # the kernel says EFBIG
        cache = DecodedCache(OnDisk(tmp_path), 1 << 30)
        for row in range(4):
            cache.keep(row, bytes([row + 1]) * 4000)
        assert len(cache) == 2
        assert cache.full == "File too large"
        assert taken(cache, 0, 1, 2) == [b"\1" * 4000, b"\2" * 4000, b""]

    assert in_child(keep_all) == 0


def in_child(what: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            what()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_one(kind: str, tmp_path: Path) -> None:
    cache = DecodedCache(store(kind, tmp_path), 1 << 24)
    wrong: list[int] = []

    def work(own: int) -> None:
        for row in np.random.default_rng(own).permutation(300).tolist():
            cache.keep(row, row.to_bytes(2, "big") * 100)
            (content,) = taken(cache, row)
            if content != row.to_bytes(2, "big") * 100:
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(own,)) for own in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(cache) == 300
