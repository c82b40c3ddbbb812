"""The record of corrupt examples and the reasons given for them."""

from __future__ import annotations

import json
import math
import threading

import pytest

from harness.data.corrupt import CorruptRecorder, probe
from harness.errors import DataError, SpecError

JPEG, PNG = b"\xff\xd8\xff\xe0" + b"\0" * 40, b"\x89PNG\r\n\x1a\n" + b"\0" * 40


@pytest.mark.parametrize(
    ("total", "limit", "allowed"),
    [
        (10_000, 0.001, 10),
        (50, 0.001, 1),  # rounded up: any fraction above 0 lets one pass
        (1001, 0.001, 2),
        (50, 0.0, 0),
        (50, 0.06, 3),
        (100, 0.07, 7),  # not 8, though the product is a little above 7
        (10**6, 1e-15, 1),
        (50, 0.98, 49),
    ],
)
def test_limit(total, limit, allowed):
    recorder = CorruptRecorder(total, "skip", limit)
    for at in range(allowed):
        recorder.add(f"a/{at}.jpg", "empty")
        recorder.check()
    recorder.add("a/last.jpg", "empty")
    with pytest.raises(DataError, match=rf"{allowed + 1} of {total} train examples") as raised:
        recorder.check()
    assert raised.value.exit_code == 4


@pytest.mark.parametrize("limit", [1, 1.0])
def test_a_limit_of_all_lets_all_pass(limit):
    recorder = CorruptRecorder(50, "skip", limit)
    for at in range(50):
        recorder.add(f"a/{at}.jpg", "empty")
    recorder.check()
    assert recorder.allowed == 50


def test_the_error_says_what_removing_files_means():
    recorder = CorruptRecorder(50, "skip", 0.0)
    recorder.add("a/0.jpg", "empty")
    with pytest.raises(
        DataError, match=r"removing them changes the data.*`harness fork`"
    ) as raised:
        recorder.check()
    assert "one that has not by the same command" in str(raised.value)


def test_policy_fail_names_the_first():
    recorder = CorruptRecorder(100, "fail", 0.5)
    recorder.check()
    recorder.add("a/it's.jpg", "truncated JPEG")
    with pytest.raises(DataError, match=r"a/it's\.jpg.*truncated JPEG.*policy is fail"):
        recorder.check()


def test_long_lists_are_cut_and_names_can_be_hidden(tmp_path):
    for hide in (False, True):
        recorder = CorruptRecorder(100, "fail", file=tmp_path / f"{hide}.jsonl", hide_names=hide)
        for at in range(9):
            recorder.add(f"a/secret{at}.jpg", "empty")
        with pytest.raises(DataError) as raised:
            recorder.check()
        assert ("secret" in str(raised.value)) is not hide
        assert ("and 4 more" in str(raised.value)) is not hide
        assert "9 of 100" in str(raised.value)


def test_each_example_is_recorded_once_and_read_again_on_resume(tmp_path):
    file = tmp_path / "corrupt.jsonl"
    recorder = CorruptRecorder(10, "skip", 0.1, file)
    test = CorruptRecorder(10, "skip", 0, file, split="test")
    recorder.add("a/1\n.jpg", "empty")
    recorder.add("a/1\n.jpg", "empty")
    test.add("a/9.jpg", "missing")
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"split": "train", "name": "a/1\n.jpg", "reason": "empty"},
        {"split": "test", "name": "a/9.jpg", "reason": "missing"},
    ]
    again = CorruptRecorder(10, "skip", 0.1, file)
    assert again.reasons == {"a/1\n.jpg": "empty"} and len(again) == 1
    again.check()
    again.add("a/2.jpg", "empty")
    with pytest.raises(DataError):
        again.check()


def test_many_threads_at_once(tmp_path):
    recorder = CorruptRecorder(1000, "skip", 0.5, tmp_path / "corrupt.jsonl")

    def add() -> None:
        for at in range(50):
            recorder.add(f"{at}.jpg", "empty")

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len((tmp_path / "corrupt.jsonl").read_text().splitlines()) == len(recorder) == 50


@pytest.mark.parametrize(
    "bad", [{"policy": "warn"}, {"limit": -1}, {"limit": 1.5}, {"limit": 3}, {"limit": math.nan}]
)
def test_unknown_settings_are_refused(bad):
    with pytest.raises(SpecError, match=r"data\.corrupt\."):
        CorruptRecorder(10, **bad)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing"),
        (b"", "empty"),
        (b"hello", "not an image (JPEG, PNG, GIF, BMP or WebP)"),
        (JPEG, "truncated JPEG"),
        (JPEG + b"\xff\xd9", "JPEG that cannot be decoded"),
        (PNG, "truncated PNG"),
        (PNG + b"IEND", "PNG that cannot be decoded"),
        (b"GIF89a", "truncated GIF"),
        (b"BM", "BMP that cannot be decoded"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP that cannot be decoded (older TensorFlow reads none)"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not an image (JPEG, PNG, GIF, BMP or WebP)"),
    ],
)
def test_reasons(tmp_path, content, reason):
    path = tmp_path / "1.jpg"
    if content is not None:
        path.write_bytes(content)
    assert probe(path) == reason


def test_a_folder_cannot_be_read(tmp_path):
    assert probe(tmp_path).startswith("cannot be read")
