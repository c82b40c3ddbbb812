"""Archives of modules that are damaged, cut or odd, and what stands beside one in the cache."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.errors import DataError
from harness.model import kept
from harness.model.pinned import digest_of
from harness.model.unpack import NotAModule, unpack


class DiskUsage(NamedTuple):
    total: int
    used: int
    free: int


FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"w" * 5000}


def archive(path: Path, mode: str, files: dict[str, bytes] = FILES) -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def take(path: Path, folder: Path) -> None:
    folder.mkdir()
    unpack(path, folder, file_mode=0o600, folder_mode=0o700)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_whole_ones_are_taken(tmp_path: Path, mode: str) -> None:
    take(archive(tmp_path / "a.tar", mode), tmp_path / "out")
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == FILES


def cut(path: Path) -> None:
    os.truncate(path, 1024)  # after the first of its files


def without_end(path: Path) -> None:
    os.truncate(path, 1024 + 512 + 5120)


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "cut after a file": ("w", cut),
    "cut before its end": ("w", without_end),
    "packed otherwise": ("w:xz", lambda path: None),
    "packed and cut": ("w:gz", lambda path: os.truncate(path, path.stat().st_size - 9)),
}


@pytest.mark.parametrize(("mode", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_others_are_refused(tmp_path: Path, mode: str, damage: Callable[[Path], None]) -> None:
    path = archive(tmp_path / "a.tar", mode)
    damage(path)
    with pytest.raises(NotAModule):
        take(path, tmp_path / "out")


def test_a_file_in_the_place_of_a_folder_is_no_full_disk(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", "w", {"a": b"1", "a/b/c": b"2"})
    with pytest.raises(NotAModule, match="twice"):
        take(path, tmp_path / "out")


def test_more_than_the_disk_has_is_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("huge")
        tar.addfile(member)
    raw = bytearray(path.read_bytes())
    member.size = 1 << 60
    raw[:512] = member.tobuf(tarfile.GNU_FORMAT)[:512]
    path.write_bytes(raw)
    with pytest.raises(OSError, match="No space"):
        take(path, tmp_path / "out")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_files_that_fit_alone_and_not_together_are_not_begun(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held to the room as a whole: half a module would have filled the disk of a group."""
    path = archive(tmp_path / "a.tar", mode, {str(n): b"x" * 60_000 for n in range(3)})
    free = 3 * 61_440 - 1  # whole blocks
    monkeypatch.setattr(
        "harness.model.unpack.shutil.disk_usage", lambda folder: DiskUsage(1 << 40, 0, free)
    )
    with pytest.raises(OSError, match=r"No space.*184\.3 kB or more unpacked, 184\.3 kB free"):
        take(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    free += 1
    take(path, tmp_path / "again")
    assert len(list((tmp_path / "again").iterdir())) == 3


def test_what_is_wrong_at_its_end_is_seen_before_anything_is_written(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", "w:gz", {**FILES, "../away": b"1"})
    with pytest.raises(NotAModule, match="no name inside a module"):
        take(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """What is behind it would be in no digest."""
    (tmp_path / "elsewhere").mkdir()
    module = tmp_path / "module"
    module.mkdir()
    (module / "saved_model.pb").write_bytes(b"graph")
    assert digest_of(module)
    (module / "variables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="a folder inside of the module is a link"):
        digest_of(module)


def test_runs_that_note_themselves_at_once_are_all_noted(tmp_path: Path) -> None:
    """Whether their folders are there is not looked at: a colleague's cannot be seen."""
    module = tmp_path / "module"
    runs = [tmp_path / f"nowhere-{number}" for number in range(24)]
    threads = [threading.Thread(target=kept.note_use, args=(module, run)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept.note_use(module)
    kept.note_use(module, runs[3])
    lines = (tmp_path / "module.used").read_text().splitlines()
    assert sorted(lines) == sorted(map(str, runs))


def test_what_a_killed_removal_left_is_in_nobodys_way(tmp_path: Path) -> None:
    modules = tmp_path / "tfhub"
    module = modules / ("ab" * 20)
    module.mkdir(parents=True)
    (module / "saved_model.pb").write_bytes(b"graph")
    left = modules / f".{module.name}.gone"
    left.mkdir()
    (left / "x").touch()
    os.utime(module, (0, 0))
    (one,) = kept.backbones(tmp_path)
    assert kept.remove(one)
    assert not module.exists()
    kept.sweep(tmp_path)
    assert list(modules.iterdir()) == []
