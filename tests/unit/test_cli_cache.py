"""``harness cache``: what is kept, and what goes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from harness.cli.main import main
from harness.data.feature_store import GOOD, USED, Chunk, Entry, Layout

HOURS = {"new": 0, "day": 25, "week": 24 * 7 + 1}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sets of features of 22 kB, last used at different times."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    layout = Layout.of(500, (10,), "float32")
    for name, hours in HOURS.items():
        entry = Entry(tmp_path, {"backbone": name}, layout)
        entry.make()
        for number in range(layout.chunks):
            first, last = layout.span(number)
            rows = last - first
            features = np.zeros((rows, 10), np.float32)
            state = np.full(rows, GOOD, np.uint8)
            entry.write(number, Chunk(features, state, np.ones(rows, np.float32)))
        os.utime(entry.folder / USED, (time.time() - 3600 * hours,) * 2)
    return tmp_path


def kept(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Of which backbones features are kept, the longest unused first."""
    assert main(["cache", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["features"]
    return [one["facts"]["backbone"] for one in found]


def test_the_list_says_what_is_kept(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kept(capsys) == ["week", "day", "new"]
    assert main(["cache", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["KEY", "SIZE", "UNUSED", "BACKBONE", "EXAMPLES"]
    assert len(lines) == 5
    assert lines[3].endswith("in use")
    assert lines[4].startswith(f"3 sets of features in {cache}, 6")
    assert lines[4].endswith("of 100.0 GB")


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--unused-days", "7"], ["day", "new"]),
        (["--unused-days", "30"], ["week", "day", "new"]),
        (["--unused-days", "0"], ["new"]),
        (["--to-gb", "0.00005"], ["day", "new"]),
        (["--all"], ["new"]),
        (["--all", "--dry-run"], ["week", "day", "new"]),
    ],
)
def test_prune_removes_the_longest_unused(
    words: list[str], left: list[str], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "prune", *words]) == 0
    capsys.readouterr()
    assert kept(capsys) == left
    assert sorted(path.name for path in (cache / "features").iterdir()) == sorted(
        one["key"] for one in listed(capsys)
    )


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    main(["cache", "list", "--json"])
    return list(json.loads(capsys.readouterr().out)["features"])


def test_what_cannot_be_removed_is_named(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)  # root, which tests may be, may do all
    assert main(["cache", "prune", "--all"]) == 5
    out = capsys.readouterr().out
    assert out.count("not removed") == 2


@pytest.mark.parametrize("said", ["-1", "much", "inf", "nan"])
def test_a_limit_that_is_none_is_refused(
    said: str, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE_GB", said)
    assert main(["cache", "list"]) == 2
    assert "HARNESS_CACHE_GB is no size" in capsys.readouterr().err


def test_an_empty_cache_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "new"))
    assert main(["cache", "list"]) == 0
    assert capsys.readouterr().out.startswith("0 sets of features")


SITE = """
name: here
description: a site whose jobs have a cache of their own
environment: {{variables: {{HARNESS_CACHE: "{}", HARNESS_CACHE_GB: "7"}}}}
"""


@pytest.mark.parametrize("how", ["--site", "HARNESS_SITE", "user config"])
def test_the_cache_is_that_of_the_sites_jobs(
    how: str,
    cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("site")
    (folder / "site.yaml").write_text(SITE.format(cache))
    monkeypatch.setenv("HARNESS_CACHE", str(folder / "of the shell"))
    words = []
    if how == "--site":
        words = ["--site", str(folder / "site.yaml")]
    elif how == "HARNESS_SITE":
        monkeypatch.setenv("HARNESS_SITE", str(folder / "site.yaml"))
    else:
        (folder / "harness").mkdir()
        (folder / "harness" / "config.yaml").write_text(f"site: {folder / 'site.yaml'}\n")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    assert main(["cache", "list", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["root"], found["limit_bytes"]) == (str(cache), 7e9)
    assert len(found["features"]) == 3
    assert main(["cache", "prune", "--all", *words]) == 0
    assert [path.name for path in (cache / "features").iterdir()] != []
    assert "removed 2 of 3 sets of features" in capsys.readouterr().out
    assert not (folder / "of the shell").exists()


def test_a_site_that_is_not_there(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list", "--site", "nowhere"]) == 2
    assert "there is no such site" in capsys.readouterr().err


def test_what_was_seen_of_records_is_kept_beside_them(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has its line, counts towards the limit, and goes when it is not in use."""
    entry = cache / "records" / ("ab" * 32)
    entry.mkdir(parents=True)
    (entry / "entry.json").write_text(json.dumps({"data": "/d", "files": 2, "examples": 5100}))
    (entry / "seen.bin").write_bytes(bytes(1000))
    (entry / "used").touch()
    os.utime(entry / "used", (time.time() - 7200,) * 2)
    (cache / "records" / ".making-x").mkdir()
    assert main(["cache", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("ab")]
    assert line.split()[-2:] == ["TFRecords", "5100"]
    assert lines[4 + 1].startswith(f"3 sets of features and 1 indexes of TFRecords in {cache}")
    assert main(["cache", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["facts"]["examples"] for one in found["records"]] == [5100]
    assert len(found["features"]) == 3
    assert main(["cache", "prune", "--unused-days", "0.05"]) == 0
    assert not entry.exists()
