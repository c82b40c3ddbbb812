"""Fetching backbones: over a real HTTPS connection, through a proxy, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
import threading
import time
import traceback
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import DataError, StorageError
from harness.model import download
from harness.model.fetch import DESCRIPTOR, Fetched, fetch
from harness.model.kept import USED, backbones, note_use, remove
from harness.model.pinned import check_owners
from harness.model.remote import Remote, Shelves, module_name, remote_of
from harness.spec import Trust
from harness.spec.models_model import Backbone
from tests.https_here import NOBODY, World, archive, world
from tests.unit.rights import mount_tmpfs, needs_root

HANDLE = "https://tfhub.dev/google/small/1"
FILES = {"./saved_model.pb": b"graph" * 1000, "./variables/variables.index": os.urandom(90_000)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("https")) as found:
        yield found


@pytest.fixture
def hub(served: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The served world as the module left it: one module, nothing odd."""
    served.__dict__.update(World().__dict__ | {"environment": served.environment})
    served.serve_module(HANDLE, FILES)
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(download, "_PAUSE_S", 0.01)
    return served


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    (tmp_path / "cache").mkdir(mode=0o700)
    return Shelves.of({}, tmp_path / "cache")


def module(shelves: Shelves, handle: str = HANDLE) -> Remote:
    found = remote_of(Backbone(handle=handle), (), shelves)
    assert found is not None
    return found


def weights(shelves: Shelves) -> Remote:
    found = remote_of(Backbone(handle="keras:MobileNetV2"), (96,), shelves)
    assert found is not None
    return found


def quiet(text: str) -> None:
    """Hears nothing."""


def test_a_module_is_fetched_once_and_lies_where_the_hub_looks(
    hub: World, shelves: Shelves
) -> None:
    said: list[str] = []
    done = fetch(module(shelves), said.append)
    folder = shelves.modules / module_name(HANDLE)
    assert (done.remote.path, done.fetched) == (folder, True)
    assert done.bytes == sum(map(len, FILES.values()))
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "saved_model.pb",
        "variables/variables.index",
    }
    assert (folder / "variables/variables.index").read_bytes() == FILES[
        "./variables/variables.index"
    ]
    described = folder.with_name(folder.name + DESCRIPTOR).read_text()
    assert described.startswith(f"Module: {HANDLE}\n")
    assert said[0].startswith(f"fetching {HANDLE} (9")
    assert hub.asked == ["tfhub.dev/google/small/1?tf-hub-format=compressed"]
    assert fetch(module(shelves), said.append).fetched is False
    assert len(hub.asked) == 1
    # Nothing but the module and what describes it: no lock, nothing half done.
    assert sorted(one.name for one in shelves.modules.iterdir()) == [
        folder.name,
        folder.name + DESCRIPTOR,
    ]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "saved_model.pb").stat().st_mode) == 0o600


def test_in_a_cache_of_a_group_all_read_and_none_but_the_owner_writes(
    hub: World, shelves: Shelves
) -> None:
    shelves.modules.parent.chmod(0o2770)
    folder = fetch(module(shelves), quiet).remote.path
    assert stat.S_IMODE(shelves.modules.stat().st_mode) == 0o2770
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2750
    assert stat.S_IMODE((folder / "variables").stat().st_mode) == 0o2750
    assert stat.S_IMODE((folder / "saved_model.pb").stat().st_mode) == 0o640


def test_a_broken_connection_is_gone_on_with(hub: World, shelves: Shelves) -> None:
    hub.breaks = [20_000, 50_000]
    fetch(module(shelves), quiet)
    assert hub.begun_at == [0, 20_000, 50_000]


def test_without_ranges_it_begins_again(hub: World, shelves: Shelves) -> None:
    hub.breaks, hub.ranges = [20_000], False
    folder = fetch(module(shelves), quiet).remote.path
    assert hub.begun_at == [0, 0]
    assert (folder / "saved_model.pb").read_bytes() == FILES["./saved_model.pb"]


def test_a_busy_server_is_asked_again(hub: World, shelves: Shelves) -> None:
    hub.codes = [503, 429]
    assert fetch(module(shelves), quiet).fetched
    assert len(hub.asked) == 3


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({"codes": [404]}, "the server says 404"),
        ({"codes": [503] * 4}, "the server says 503 Service Unavailable (4 times)"),
        ({"breaks": [9] * 4}, "too early (4 times)"),
        ({"leads": {"tfhub.dev/google/small/1": "http://tfhub.dev/x"}}, "which is not https"),
    ],
)
def test_what_cannot_be_had_is_said_with_what_to_run(
    trouble: dict[str, object], words: str, hub: World, shelves: Shelves
) -> None:
    for name, value in trouble.items():
        setattr(hub, name, value)
    with pytest.raises(DataError) as caught:
        fetch(module(shelves), quiet)
    problem = caught.value.problems[0]
    assert words in str(problem.got)
    assert "curl -fLo FILE 'https://tfhub.dev/google/small/1?tf-hub-format=compressed'" in str(
        problem.action
    )
    assert "harness stage SPEC --from FILE" in str(problem.action)
    assert list(shelves.modules.iterdir()) == []


def test_nobody_answers(shelves: Shelves, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)
    begun = time.monotonic()
    with pytest.raises(DataError, match=r"cannot be had: .*refused"):
        fetch(module(shelves), quiet)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("reason", "tries"),
    [
        (ConnectionResetError("reset"), 4),
        (TimeoutError("late"), 4),
        (socket.gaierror(socket.EAI_AGAIN, "again"), 4),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), 1),
        (ConnectionRefusedError("refused"), 1),
    ],
)
def test_what_may_pass_is_tried_again(
    reason: OSError, tries: int, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fails(*given: object, **more: object) -> None:
        tried.append(given)
        raise urllib.error.URLError(reason)

    monkeypatch.setattr("urllib.request.OpenerDirector.open", fails)
    monkeypatch.setattr("harness.model.download._PAUSE_S", 0.0)
    with pytest.raises(DataError):
        fetch(module(shelves), quiet)
    assert len(tried) == tries


def test_a_stranger_is_not_believed(
    hub: World, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(DataError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(module(shelves), quiet)


def test_an_https_address_may_lead_on_to_another(hub: World, shelves: Shelves) -> None:
    hub.leads = {"tfhub.dev/google/small/1": "https://storage.googleapis.com/there.tar.gz"}
    hub.files["storage.googleapis.com/there.tar.gz"] = archive(FILES)
    assert fetch(module(shelves), quiet).fetched


def odd_archive(kind: bytes, name: str = "saved_model.pb") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    return made.getvalue()


WHOLE = archive(FILES)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>please log in</html>", "no whole .tar.gz"),
        (b"", "no whole .tar.gz"),
        (WHOLE[: len(WHOLE) // 2], "no whole .tar.gz"),
        (WHOLE[:500] + b"?" + WHOLE[501:], "no whole .tar.gz"),
        (archive({"module/saved_model.pb": b"x"}), "without saved_model.pb, of module"),
        (archive({"../saved_model.pb": b"x"}), "no name inside a module"),
        (archive({"/tmp/saved_model.pb": b"x"}), "no name inside a module"),
        (archive({"a/../../saved_model.pb": b"x"}), "no name inside a module"),
        (archive({"new\nline": b"x"}), "no name inside a module"),
        (odd_archive(tarfile.SYMTYPE), "neither a file nor a folder"),
        (odd_archive(tarfile.LNKTYPE), "neither a file nor a folder"),
        (odd_archive(tarfile.FIFOTYPE), "neither a file nor a folder"),
        (odd_archive(tarfile.CHRTYPE), "neither a file nor a folder"),
    ],
)
def test_what_is_no_module_is_refused_and_not_kept(
    content: bytes, words: str, hub: World, shelves: Shelves
) -> None:
    hub.files[f"{HANDLE.removeprefix('https://')}?tf-hub-format=compressed"] = content
    with pytest.raises(DataError, match="nothing is kept of it") as caught:
        fetch(module(shelves), quiet)
    assert words in str(caught.value.problems[0].got)
    assert list(shelves.modules.iterdir()) == []
    assert not list(shelves.modules.parent.rglob("saved_model.pb"))


def test_what_is_interrupted_leaves_nothing(hub: World, shelves: Shelves) -> None:
    def leave(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(module(shelves), leave)
    assert list(shelves.modules.iterdir()) == []
    assert fetch(module(shelves), quiet).fetched


def test_two_at_once_ask_once(hub: World, shelves: Shelves) -> None:
    hub.slow_s = 0.5
    said: list[str] = []
    done: list[Fetched] = []
    threads = [
        threading.Thread(target=lambda: done.append(fetch(module(shelves), said.append)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.fetched for one in done) == [False, True]
    assert len(hub.asked) == 1
    assert any("another process fetches" in text for text in said)


def test_leftovers_of_the_killed_go_once_nobody_can_be_at_them(
    hub: World, shelves: Shelves
) -> None:
    shelves.modules.mkdir(mode=0o700)
    name = module_name(HANDLE)
    old, new = (shelves.modules / f".{name}.{mark}.tmp" for mark in ("0123abcd", "4567abcd"))
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    fetch(module(shelves), quiet)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_folder_of_something_else_is_not_taken_for_the_module(shelves: Shelves) -> None:
    folder = shelves.modules / module_name(HANDLE)
    (folder / "module").mkdir(parents=True)
    with pytest.raises(DataError, match="is no SavedModel"):
        fetch(module(shelves), quiet)


def test_an_empty_folder_is_none(hub: World, shelves: Shelves) -> None:
    (shelves.modules / module_name(HANDLE)).mkdir(parents=True)
    assert fetch(module(shelves), quiet).fetched


def test_a_file_that_was_fetched_elsewhere_is_taken(hub: World, shelves: Shelves) -> None:
    given = shelves.modules.parent / "module.tar.gz"
    given.write_bytes(archive(FILES))
    assert fetch(module(shelves), quiet, given).fetched
    assert hub.asked == []
    assert given.exists()


def test_weights_are_held_to_their_checksum(
    hub: World, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"\x89HDF\r\n\x1a\n" + os.urandom(5000)
    wanted = weights(shelves)
    assert wanted.path.name.endswith("1.0_96_no_top.h5")
    hub.files[wanted.address.removeprefix("https://")] = content
    assert fetch(wanted, quiet).remote.path.read_bytes() == content
    sums = {"md5": hashlib.md5(content), "sha256": hashlib.sha256(content)}
    for name, made in sums.items():
        good = made.hexdigest()
        path = wanted.path.with_name(f"{name}.h5")
        right = Remote(wanted.handle, wanted.address, path, good, is_module=False)
        wrong = Remote(wanted.handle, wanted.address, path, "0" + good[1:], is_module=False)
        if good[0] != "0":
            with pytest.raises(DataError, match=f"{name} {good}, not 0"):
                fetch(wrong, quiet)
        assert fetch(right, quiet).fetched
    assert not list(shelves.models.glob(".*"))


def test_what_are_no_weights_is_refused(hub: World, shelves: Shelves) -> None:
    hub.files[weights(shelves).address.removeprefix("https://")] = b"<html>"
    with pytest.raises(DataError, match=r"no \.h5 file"):
        fetch(weights(shelves), quiet)
    assert list(shelves.models.iterdir()) == []


def test_a_long_one_says_how_far_it_is(
    hub: World, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.model.fetch._SAID_S", 0.0)
    hub.breaks = [50_000]
    said: list[str] = []
    fetch(module(shelves), said.append)
    assert any(f"{HANDLE} (50.0 kB of 9" in text for text in said)


def test_a_full_disk_leaves_nothing(hub: World, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    mount_tmpfs(tmp_path / "small", "size=64k,mode=0700")
    try:
        wanted = module(Shelves.of({}, tmp_path / "small"))
        with pytest.raises(StorageError, match="No space left"):
            fetch(wanted, quiet)
        assert list(wanted.path.parent.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)


def test_a_cache_that_cannot_be_written(hub: World, shelves: Shelves) -> None:
    shelves.modules.write_text("a file stands where the folder belongs")
    with pytest.raises(StorageError):
        fetch(module(shelves), quiet)


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
