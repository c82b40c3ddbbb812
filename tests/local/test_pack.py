"""``harness pack`` as a user calls it: whole, in parts, interrupted, on bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.packed import open_packed
from tests.local.rank_helpers import HARNESS

CLASSES = ["blue", "green", "red"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pack") / "source", CLASSES, 40, 16)


def harness(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [*HARNESS, "pack", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_it_packs_and_says_what(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    said = harness(source, folder, "--verify").stdout
    index = open_packed(folder)
    assert f"{folder}: 120 examples of 3 classes" in said
    assert "verified" in said
    assert index.digest in said
    again = json.loads(harness(source, folder, "--json").stdout)
    assert again["written"] == 0
    assert again["finished"]
    assert again["counts"] == dict.fromkeys(CLASSES, 40)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_parts_and_the_rest(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    # Sizes are whole megabytes, so these pictures fill one file: of three parts two have no work.
    facts = json.loads(harness(source, folder, "--part", "2/3", "--json").stdout)
    assert facts == {
        "written": 0,
        "missing_shards": 1,
        "undecodable": [],
        "verified": False,
        "finished": False,
    }
    said = harness(source, folder, "--part", "3/3").stdout
    assert "1 files are still to come" in said
    assert "120 examples" in harness(source, folder, "--part", "1/3").stdout


def inode(path: Path) -> int:
    return path.stat().st_ino


SLOW = """
import runpy, sys, time
import harness.data.pack as pack

read, count = pack._read, 0

def slow(path, size, shown):
    global count
    count += 1
    if count == 40:
        print("40 read", flush=True)
    if count > 39:
        time.sleep(1)
    return read(path, size, shown)

pack._read = slow
sys.argv = ["harness", *sys.argv[1:]]
runpy.run_module("harness", run_name="__main__")
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_was_interrupted_goes_on(how: signal.Signals, tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "packed"
    for name in ("a", "b"):
        (source / name).mkdir(parents=True)
        for number in range(30):
            (source / name / f"{number}.png").write_bytes(os.urandom(200_000))
    command = ["pack", str(source), str(folder), "--shard-mb", "1", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "40 read\n"
    process.send_signal(how)
    code = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[how]
    assert process.wait(60) == code
    process.stdout.close()
    if how != signal.SIGKILL:
        assert not list((folder / ".packing").glob("*.tmp"))
    noted = [json.loads(path.read_text()) for path in (folder / ".packing").glob("0*.json")]
    there = {one["shard"]["file"]: inode(folder / one["shard"]["file"]) for one in noted}
    assert 5 < len(there) < 15
    harness(source, folder, "--shard-mb", "1", "--verify")
    assert len(open_packed(folder)) == 60
    for name, number in there.items():
        assert inode(folder / name) == number
    assert not list(folder.glob(".*")), "what a kill has left goes at the end"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere", "DST"], 4, "does not exist"),
        (["SRC", "SRC/packed"], 2, "lies in the data"),
        (["SRC", "SRC"], 2, "lies in the data"),
        (["SRC", "DST", "--part", "5/4"], 2, "K/N with 1 <= K <= N"),
        (["SRC", "DST", "--part", "4"], 2, "K/N with 1 <= K <= N"),
        (["SRC", "DST", "--quality", "101", "--resize", "9"], 2, "must be 1 to 100"),
        (["SRC", "DST", "--quality", "80"], 2, "--quality is of pictures that --resize shrinks"),
        (["SRC", "DST", "--shard-mb", "0"], 2, "a whole number, 1 or more"),
        (["SRC", "FILE"], 5, "FILE"),
    ],
)
def test_bad_input(
    arguments: list[str], code: int, words: str, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_text("")
    places = {"SRC": source, "DST": tmp_path / "packed", "SRC/packed": source / "packed"}
    places["FILE"] = tmp_path / "FILE"
    done = harness(*(places.get(word, word) for word in arguments), code=code)
    assert words in done.stderr
    assert not (tmp_path / "packed").exists()


def test_what_is_packed_is_not_packed_again(source: Path, tmp_path: Path) -> None:
    harness(source, tmp_path / "packed")
    done = harness(tmp_path / "packed", tmp_path / "again", code=2)
    assert "is packed already" in done.stderr
