"""What was seen of TFRecord files is kept, and is the same as looking again."""

from __future__ import annotations

import json
import os
import stat
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
pytest.importorskip("google_crc32c")

from harness.cli.main import main  # noqa: E402
from harness.data import record_kept  # noqa: E402
from harness.data.record_files import RecordOptions  # noqa: E402
from harness.data.record_index import record_index  # noqa: E402
from harness.data.record_kept import RECORDS, SEEN, kept_or_scanned  # noqa: E402
from harness.data.record_scan import scan_file  # noqa: E402
from harness.data.record_seen import Scanned  # noqa: E402
from harness.errors import UsageError  # noqa: E402
from tests.unit.record_helpers import example, flip, write_records  # noqa: E402

NAMES = ("ant", "bee")
OPTIONS = RecordOptions("image", "label", weight="w", group="g", missing_label="drop", limit=1.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, in which anything is worth keeping."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(record_kept, "WORTH", 1)
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def one(number: int, label: Any = "ant", **more: Any) -> bytes:
    values = {"image": b"picture %d" % number, "w": [0.5 * number], "g": b"who %d" % (number % 3)}
    return example({**values, **({"label": label} if label is not None else {}), **more})


def seen(folder: Path, options: RecordOptions = OPTIONS, *, scan: bool = True) -> list[Scanned]:
    """What is seen of the files of a folder; without ``scan`` it must have been seen before."""
    files = sorted(path.name for path in folder.glob("*.tfrecord"))

    def look(name: str) -> Scanned:
        assert scan, "it looked again"
        return scan_file(folder, name, options)

    with ThreadPoolExecutor(4) as pool:
        return kept_or_scanned(folder, files, options, look, pool)


def facts(found: list[Scanned]) -> list[dict[str, Any]]:
    """All that there is to know of them, with the types that it has."""
    return [
        {name: (type(value).__name__, value) for name, value in vars(each).items()}
        for each in found
    ]


@settings(max_examples=40, deadline=None)
@given(
    files=st.lists(
        st.lists(st.sampled_from(["ant", "bee", "c\u00e4t", None, 7]), min_size=1, max_size=6),
        min_size=1,
        max_size=4,
    ),
    cut=st.integers(0, 3),
)
def test_what_is_kept_is_what_was_seen(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[Any]], cut: int
) -> None:
    """Labels of both kinds, records without one, weights, groups, and a file that ends early."""
    folder = tmp_path_factory.mktemp("records")
    for number, labels in enumerate(files):
        raw = [one(at, label) for at, label in enumerate(labels)]
        path = write_records(folder / f"{number}.tfrecord", raw)
        if number == 0 and cut:
            os.truncate(path, path.stat().st_size - cut)
    first = seen(folder)
    if not sum(map(len, first)):
        return
    assert facts(seen(folder, scan=False)) == facts(first)


def test_the_index_is_the_same(tmp_path: Path, cache: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        raw = [one(at, "ant" if at % 2 else "bee") for at in range(20)]
        write_records(folder / f"{number}.tfrecord", raw)
    found = [record_index(folder, OPTIONS) for _ in range(2)]
    monkeypatch.delenv("HARNESS_CACHE")
    found.append(record_index(folder, OPTIONS))
    assert len({each.digest for each in found}) == 1
    for each in found:
        assert each.labels.tolist() == found[0].labels.tolist()
        assert list(each.groups) == list(found[0].groups)
        assert [each.content(row) for row in range(60)] == [found[0].content(r) for r in range(60)]
    (entry,) = (cache / RECORDS).iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in entry.iterdir()} == {0o600}


CHANGES = {
    "a file was written again": lambda folder, entry: os.utime(folder / "0.tfrecord", ns=(1, 1)),
    "a file has come": lambda folder, entry: write_records(folder / "1.tfrecord", [one(1)]),
    "what is kept is cut": lambda folder, entry: os.truncate(entry / SEEN, 100),
    "what is kept is damaged": lambda folder, entry: flip(entry / SEEN, 400),
    "what is kept has gone": lambda folder, entry: (entry / SEEN).unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_no_longer_so_is_looked_at_again(tmp_path: Path, cache: Path, change: Any) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_records(folder / "0.tfrecord", [one(at) for at in range(200)])
    before = seen(folder)
    (entry,) = (cache / RECORDS).iterdir()
    change(folder, entry)
    with pytest.raises(AssertionError, match="it looked again"):
        seen(folder, scan=False)
    assert sum(map(len, seen(folder))) >= len(before[0])
    seen(folder, scan=False)  # and that is kept


@pytest.mark.parametrize(
    "change", [{"label": "g"}, {"weight": None}, {"missing_label": "error"}, {"names": ("a", "b")}]
)
def test_other_features_are_looked_at_for_themselves(tmp_path: Path, change: Any) -> None:
    write_records(tmp_path / "0.tfrecord", [one(at) for at in range(5)])
    seen(tmp_path)
    with pytest.raises(AssertionError, match="it looked again"):
        seen(tmp_path, replace(OPTIONS, **change), scan=False)


def test_what_is_refused_or_small_or_has_no_room_is_not_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records(tmp_path / "0.tfrecord", [one(0), one(1, None)])
    strict = replace(OPTIONS, missing_label="error")
    assert seen(tmp_path, strict)[0].problems
    monkeypatch.setattr(record_kept, "WORTH", 3)
    seen(tmp_path)
    assert not (cache / RECORDS).exists()
    monkeypatch.setattr(record_kept, "WORTH", 1)
    (cache / RECORDS).write_text("in its way")
    assert len(seen(tmp_path)[0]) == 1


def test_the_limit_of_the_cache_is_held(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is longest unused goes first, what is in use stays, and then nothing is kept."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        write_records(tmp_path / name / "0.tfrecord", [one(at) for at in range(2000)])
    seen(tmp_path / "a")
    (first,) = (cache / RECORDS).iterdir()
    size = sum(path.stat().st_size for path in first.iterdir())
    monkeypatch.setenv("HARNESS_CACHE_GB", str(1.5 * size / 1e9))
    os.utime(first / "used", (1, 1))
    seen(tmp_path / "b")
    (second,) = (cache / RECORDS).iterdir()
    assert second.name != first.name
    seen(tmp_path / "c")  # the second is in use
    assert list((cache / RECORDS).iterdir()) == [second]
    monkeypatch.setenv("HARNESS_CACHE_GB", "a lot")
    with pytest.raises(UsageError, match="HARNESS_CACHE_GB is no size"):
        seen(tmp_path / "c")


def test_writing_and_reading_hold_little(tmp_path: Path, cache: Path) -> None:
    """Beside what was seen itself; it was three times that."""
    found = []
    for number in range(8):
        found.append(Scanned(f"{number}", 1, 1))
        for name in ("starts", "sizes", "numbers", "labels", "weights"):
            getattr(found[-1], name).extend([number] * 50_000)
    size = 8 * 5 * 50_000 * 8
    entry = cache / RECORDS / "entry"
    tracemalloc.start()
    try:
        record_kept._keep(entry, tmp_path, found)
        _, most = tracemalloc.get_traced_memory()
        assert most < size / 8
        tracemalloc.reset_peak()
        again = record_kept._read(entry, [one.file for one in found])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (entry / SEEN).stat().st_size > size
    assert most < 1.25 * size
    assert facts(again or []) == facts(found)


@pytest.mark.parametrize("way", ["HARNESS_CACHE", "XDG_CACHE_HOME"])
def test_a_plan_reads_what_is_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, way: str
) -> None:
    """Where the cache is named, and in the usual place."""
    write_records(tmp_path / "0.tfrecord", [one(at, NAMES[at % 2]) for at in range(40)])
    features = {"image": "image", "label": "label"}
    spec = {
        "harness_spec": 1,
        "name": "kept",
        "backbone": {"handle": "keras:MobileNetV2"},
        "data": {"train": str(tmp_path / "0.tfrecord"), "features": features},
        "training": {"phases": [{"name": "one", "epochs": 1, "unfreeze": "none"}]},
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    if way == "XDG_CACHE_HOME":
        monkeypatch.delenv("HARNESS_CACHE")
        monkeypatch.setenv(way, str(tmp_path / "usual"))
        cache = tmp_path / "usual" / "harness"
        cache.mkdir(parents=True)
    assert main(["plan", str(tmp_path / "spec.yaml")]) == 0
    assert len(list((cache / RECORDS).iterdir())) == 1

    def looked_again(*given: Any, **more: Any) -> Scanned:
        raise AssertionError("it looked again")

    monkeypatch.setattr("harness.data.record_index.scan_file", looked_again)
    capsys.readouterr()
    assert main(["plan", str(tmp_path / "spec.yaml"), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts["train"] + counts["validation"] == 40


def test_several_at_once_leave_one_whole_entry(tmp_path: Path, cache: Path) -> None:
    write_records(tmp_path / "0.tfrecord", [one(at) for at in range(50)])
    threads = [threading.Thread(target=seen, args=(tmp_path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list((cache / RECORDS).iterdir())) == 1
    assert len(seen(tmp_path, scan=False)[0]) == 50


def test_no_damage_gives_other_numbers(tmp_path: Path, cache: Path) -> None:
    """Whatever byte of what is kept is another: it is the same, or it is looked at again."""
    folder = tmp_path / "data"
    write_records(folder / "0.tfrecord", [one(at) for at in range(3)])
    wanted = facts(seen(folder))
    (entry,) = (cache / RECORDS).iterdir()
    whole = (entry / SEEN).read_bytes()
    for at in range(0, len(whole), 5):
        entry.mkdir(exist_ok=True)
        (entry / SEEN).write_bytes(whole)
        flip(entry / SEEN, at)
        assert facts(seen(folder)) == wanted, at


def test_what_killed_writers_left_goes_and_what_is_written_stays(
    tmp_path: Path, cache: Path
) -> None:
    write_records(tmp_path / "0.tfrecord", [one(at) for at in range(3)])
    old, new = cache / RECORDS / ".making-old", cache / RECORDS / ".making-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    seen(tmp_path)
    assert not old.exists()
    assert new.exists()
    (entry,) = (path for path in (cache / RECORDS).iterdir() if path != new)
    (entry / "used").unlink()  # as where it is somebody else's
    seen(tmp_path, scan=False)
