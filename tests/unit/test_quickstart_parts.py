"""The preparation of the quickstart: what it reads, what it refuses, how it is interrupted."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

JOBS = Path(__file__).resolve().parents[2] / "jobs"
sys.path.insert(0, str(JOBS))

import quickstart_prepare  # noqa: E402 - from the checkout, it is not installed
from quickstart_parts import downloads  # noqa: E402
from quickstart_parts.torch_file import read_torch_file  # noqa: E402

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Reference:
    """Stands for a storage while pickling: becomes a persistent id."""

    def __init__(self, kind: type, key: str, size: int) -> None:
        self.id = ("storage", kind, key, "cpu", size, None)


class TorchPickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return value.id if isinstance(value, Reference) else None


@pytest.fixture
def fake_torch(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The names that torch would write into a file, under torch's module names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    class Rebuild:
        def __init__(self, *arguments: object) -> None:
            self.arguments = arguments

        def __reduce__(self) -> tuple:
            return utils._rebuild_tensor_v2, self.arguments

    def _rebuild_tensor_v2(*arguments: object) -> Rebuild:
        return Rebuild(*arguments)

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return types.SimpleNamespace(Rebuild=Rebuild, Float=torch.FloatStorage, Long=torch.LongStorage)


def torch_bytes(named: object, storages: dict[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    for head in (MAGIC, PROTOCOL, {"little_endian": True}):
        pickle.dump(head, out, protocol=2)
    TorchPickler(out, protocol=2).dump(named)
    pickle.dump(list(storages), out, protocol=2)
    for values in storages.values():
        out.write(np.int64(values.size).tobytes() + values.tobytes())
    return out.getvalue()


def sample(fake: types.SimpleNamespace) -> bytes:
    floats, longs = np.arange(24, dtype="<f4"), np.array([7], "<i8")
    shared = Reference(fake.Float, "0", 24)
    named = OrderedDict(
        first=fake.Rebuild(shared, 0, (3, 4), (4, 1), False, OrderedDict()),
        turned=fake.Rebuild(shared, 12, (4, 3), (1, 4), False, OrderedDict()),
        seen=fake.Rebuild(Reference(fake.Long, "1", 1), 0, (), (), False, OrderedDict()),
    )
    return torch_bytes(named, {"0": floats, "1": longs})


def test_tensors_are_read_with_their_offsets_and_strides(
    tmp_path: Path, fake_torch: types.SimpleNamespace
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(sample(fake_torch))
    read = read_torch_file(file)
    assert list(read) == ["first", "turned"], "scalars are counters, no weights"
    np.testing.assert_array_equal(read["first"], np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(read["turned"], np.arange(12, 24).reshape(3, 4).T)
    assert read["turned"].flags.c_contiguous


@pytest.mark.parametrize("kept", [0, 40, -1, -9, -60])
def test_a_shortened_file_is_refused(
    tmp_path: Path, fake_torch: types.SimpleNamespace, kept: int
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(sample(fake_torch)[:kept])
    with pytest.raises((ValueError, EOFError, pickle.UnpicklingError)):
        read_torch_file(file)


def test_a_tensor_beyond_its_storage_is_refused(
    tmp_path: Path, fake_torch: types.SimpleNamespace
) -> None:
    tensor = fake_torch.Rebuild(Reference(fake_torch.Float, "0", 4), 2, (3,), (1,), False, {})
    file = tmp_path / "weights.pth"
    file.write_bytes(torch_bytes(OrderedDict(a=tensor), {"0": np.zeros(4, "<f4")}))
    with pytest.raises(ValueError, match="element 4 of a storage of 4"):
        read_torch_file(file)


class Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.canary),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    file, canary = tmp_path / "weights.pth", tmp_path / "canary"
    file.write_bytes(torch_bytes(OrderedDict(a=Evil(canary)), {}))
    with pytest.raises(pickle.UnpicklingError, match="mkdir, which is refused"):
        read_torch_file(file)
    assert not canary.exists()


def test_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"".join(pickle.dumps(n) for n in (1, 2, 3)))
    with pytest.raises(ValueError, match="old torch format"):
        read_torch_file(file)


def test_a_file_of_a_wheel_is_checked(tmp_path: Path) -> None:
    archive = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("a/data", b"right")
    right = hashlib.sha256(b"right").hexdigest()
    assert downloads.read_checked(archive, "a/data", right) == b"right"
    with pytest.raises(downloads.Unusable, match="expected 0000"):
        downloads.read_checked(archive, "a/data", "0" * 64)
    with pytest.raises(downloads.Unusable, match="delete it"):
        downloads.read_checked(archive, "a/lost", right)
    archive.write_bytes(archive.read_bytes()[:30])
    with pytest.raises(downloads.Unusable, match="cannot be read"):
        downloads.read_checked(archive, "a/data", right)


def test_a_wheel_that_is_there_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "some_thing-1.0-py3-none-any.whl"
    there.write_bytes(b"")
    monkeypatch.setattr(downloads.subprocess, "run", None)
    assert downloads.wheel("some-thing==1.0", tmp_path) == there


def test_a_failed_download_says_what_to_do(tmp_path: Path) -> None:
    # --no-index makes pip fail at once, without asking anybody.
    os.environ["PIP_NO_INDEX"] = "1"
    try:
        with pytest.raises(downloads.Unusable, match="put it into"):
            downloads.wheel("harness-has-no-such-package==1.0", tmp_path)
    finally:
        del os.environ["PIP_NO_INDEX"]
    assert not list(tmp_path.iterdir())


class Kitchen:
    """Makes of the parts, which count their calls and can be interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.fail = False
        parts = ((("train", "test"), self.data), (("backbone/net",), self.net))
        monkeypatch.setattr(quickstart_prepare, "PARTS", parts)
        monkeypatch.setattr(
            quickstart_prepare, "RANDOM_PART", (("backbone/net_random",), self.random)
        )

    def data(self, downloads: Path, folder: Path) -> None:
        self.calls.append("data")
        for part in ("train", "test"):
            (folder / part).mkdir()
            (folder / part / "picture").write_text(part)

    def net(self, downloads: Path, folder: Path) -> None:
        self.calls.append("net")
        (folder / "half").write_text("made")
        if self.fail:
            raise KeyboardInterrupt
        (folder / "whole").write_text("made")

    def random(self, downloads: Path, folder: Path) -> None:
        self.calls.append("random")
        (folder / "whole").write_text("made")


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    return Kitchen(monkeypatch)


def names(out: Path) -> set[str]:
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    return files - {".lock", ".recipe"}


WHOLE = {"train/picture", "test/picture", "backbone/net/half", "backbone/net/whole"}


def test_nothing_is_made_twice(tmp_path: Path, kitchen: Kitchen) -> None:
    assert quickstart_prepare.prepare(tmp_path, tmp_path / "d", False)
    assert names(tmp_path) == WHOLE
    assert not quickstart_prepare.prepare(tmp_path, tmp_path / "d", False)
    assert quickstart_prepare.prepare(tmp_path, tmp_path / "d", True)
    assert kitchen.calls == ["data", "net", "random"]
    assert names(tmp_path) == WHOLE | {"backbone/net_random/whole"}


def test_an_interrupted_preparation_leaves_only_whole_parts_and_goes_on(
    tmp_path: Path, kitchen: Kitchen
) -> None:
    kitchen.fail = True
    with pytest.raises(KeyboardInterrupt):
        quickstart_prepare.prepare(tmp_path, tmp_path / "d", False)
    assert not (tmp_path / "backbone" / "net").exists()
    kitchen.fail = False
    assert quickstart_prepare.prepare(tmp_path, tmp_path / "d", False)
    assert kitchen.calls == ["data", "net", "net"]
    assert names(tmp_path) == WHOLE


def test_an_end_between_two_renames_is_repaired(tmp_path: Path, kitchen: Kitchen) -> None:
    quickstart_prepare.prepare(tmp_path, tmp_path / "d", False)
    (tmp_path / "train").rename(tmp_path / ".making-left")
    quickstart_prepare.prepare(tmp_path, tmp_path / "d", False)
    assert names(tmp_path) == WHOLE


def test_another_recipe_makes_all_anew(
    tmp_path: Path, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickstart_prepare.prepare(tmp_path, tmp_path / "d", False)
    monkeypatch.setattr(quickstart_prepare, "RECIPE", "next")
    quickstart_prepare.prepare(tmp_path, tmp_path / "d", False)
    assert kitchen.calls == ["data", "net", "data", "net"]
