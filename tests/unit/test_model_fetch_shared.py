"""Who may read and use what somebody has fetched."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.model.fetch import fetch
from harness.model.kept import USED, backbones, note_use, remove
from harness.model.pinned import check_owners
from harness.model.remote import Shelves
from harness.spec import Trust
from tests.https_here import World
from tests.unit.fetch_helpers import FILES, HANDLE, WHOLE, hub, module, quiet, served, shelves
from tests.unit.rights import needs_root

__all__ = ["hub", "served", "shelves"]  # fixtures, found by their names


def test_in_a_cache_of_a_group_all_read_and_none_but_the_owner_writes(
    hub: World, shelves: Shelves
) -> None:
    shelves.modules.parent.chmod(0o2770)
    folder = fetch(module(shelves), quiet).remote.path
    assert stat.S_IMODE(shelves.modules.stat().st_mode) == 0o2770
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2750
    assert stat.S_IMODE((folder / "variables").stat().st_mode) == 0o2750
    assert stat.S_IMODE((folder / "saved_model.pb").stat().st_mode) == 0o640


def as_member(user: int, group: int, act: Callable[[], None]) -> None:
    """Acts as another user, who is in one group alone."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            act()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of the group 4100 that its members may write, where all may look in."""
    base = Path(tempfile.mkdtemp(dir="/tmp"))
    base.chmod(0o755)
    (base / "cache").mkdir()
    os.chown(base / "cache", -1, 4100)
    (base / "cache").chmod(0o2770)
    (base / "module.tar.gz").write_bytes(WHOLE)
    (base / "module.tar.gz").chmod(0o644)
    yield base
    shutil.rmtree(base)


@needs_root
def test_a_group_shares_what_a_member_has_fetched(shared: Path) -> None:
    wanted = module(Shelves.of({}, shared / "cache"))
    path, used = wanted.path, wanted.path.with_name(wanted.path.name + USED)

    def first() -> None:
        os.umask(0o077)
        assert fetch(wanted, quiet, shared / "module.tar.gz").fetched
        note_use(path)

    def second() -> None:
        assert not fetch(wanted, quiet).fetched
        note_use(path)
        note_use(path, shared)
        assert (path / "saved_model.pb").read_bytes() == FILES["./saved_model.pb"]
        with pytest.raises(PermissionError):
            (path / "saved_model.pb").write_bytes(b"another program")
        with pytest.raises(PermissionError):
            (path / "more").touch()
        with pytest.raises(DataError, match="belongs to somebody else"):
            check_owners(path, Trust())
        check_owners(path, Trust(groups=("4100",)))
        os.utime(used)
        (found,) = backbones(shared / "cache")
        assert found.handle == HANDLE

    def prune() -> None:
        (found,) = backbones(shared / "cache")
        assert not remove(found)
        assert path.is_dir()

    as_member(4001, 4100, first)
    assert (path.stat().st_uid, path.stat().st_gid) == (4001, 4100)
    as_member(4002, 4100, second)
    assert used.read_text() == f"{shared}\n"
    os.utime(used, (0, 0))
    as_member(4002, 4100, prune)
    as_member(4001, 4100, lambda: check_owners(path, Trust()))
