"""Fetching backbones: over a real HTTPS connection, through a proxy, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import time
import urllib.error

import pytest

from harness.errors import DataError
from harness.model.fetch import DESCRIPTOR, fetch
from harness.model.remote import Remote, Shelves, module_name, remote_of
from harness.spec.models_model import Backbone
from tests.https_here import NOBODY, World, archive
from tests.unit.fetch_helpers import FILES, HANDLE, hub, module, quiet, served, shelves

__all__ = ["hub", "served", "shelves"]  # fixtures, found by their names


def weights(shelves: Shelves) -> Remote:
    found = remote_of(Backbone(handle="keras:MobileNetV2"), (96,), shelves)
    assert found is not None
    return found


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
