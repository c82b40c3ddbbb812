"""The installed Horovod: what is compiled in, and whether it fits, read from its files."""

from __future__ import annotations

import re
import struct
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.distribute.horovod_built import (
    compiled_in,
    facts_of_folder,
    horovod_facts,
    horovod_hint,
)


def elf(constants: bytes, name: bytes = b".rodata") -> bytes:
    """The smallest library: a head, the constants, the names of sections, three sections."""
    names = b"\0" + name + b"\0.shstrtab\0"
    at = 64 + len(constants)
    head = b"\x7fELF\x02\x01\x01" + bytes(33) + struct.pack("<Q", at + len(names)) + bytes(10)
    head += struct.pack("<HHH", 64, 3, 2)

    def section(word: int, where: int, size: int) -> bytes:
        return struct.pack("<IIQQQQ", word, 1, 0, 0, where, size).ljust(64, b"\0")

    rows = (
        section(0, 0, 0) + section(1, 64, len(constants)) + section(2 + len(name), at, len(names))
    )
    return head + constants + names + rows


GLOO, WITH_MPI = b"\0N7horovod6common14GlooControllerE\0", b"\0N7horovod6common13MPIControllerE\0"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of a Horovod with Gloo, for TensorFlow 2.21.0 and this Python."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "__init__.py").write_text("__version__ = '0.28.1'\n")
    (tmp_path / "metadata.json").write_text('{"tensorflow": "2.21.0", "dummy": "none"}')
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (tmp_path / "tensorflow" / f"mpi_lib{suffix}").write_bytes(elf(GLOO))
    return tmp_path


def library(package: Path) -> Path:
    return next((package / "tensorflow").glob("mpi_lib*"))


def test_what_is_compiled_in_is_read(package: Path) -> None:
    facts = facts_of_folder(package, "2.21.0")
    assert facts.usable
    assert facts.controllers == facts.built_with == ("gloo",)
    library(package).write_bytes(elf(GLOO + WITH_MPI))
    assert facts_of_folder(package, "2.21.1").controllers == ("gloo", "mpi")


def test_an_elf_file_of_another_kind_is_read_whole(package: Path) -> None:
    library(package).write_bytes(b"\x7fELF\x01\x01" + bytes(80) + WITH_MPI)
    assert compiled_in(library(package))["mpi"]


@pytest.mark.parametrize(
    ("spoil", "trouble"),
    [
        (lambda p: library(p).unlink(), "without TensorFlow"),
        (lambda p: library(p).rename(p / "tensorflow" / "mpi_lib.cp39.so"), r"Python .*cp39"),
        (lambda p: library(p).write_bytes(b"no library"), "no ELF file"),
        (lambda p: library(p).write_bytes(elf(GLOO)[:-80]), "cut off"),
        (lambda p: library(p).write_bytes(elf(GLOO, b".other")), "no constants"),
        (lambda p: library(p).write_bytes(elf(b"nothing")), "neither Gloo nor MPI"),
    ],
)
def test_a_horovod_that_cannot_work_says_why(
    package: Path, spoil: Callable[[Path], None], trouble: str
) -> None:
    spoil(package)
    facts = facts_of_folder(package, "2.21.0")
    assert not facts.usable
    assert re.search(trouble, facts.trouble or "")


@pytest.mark.parametrize(
    ("built", "here", "usable"),
    [
        ("2.21.0", "2.21.1", True),
        ("2.21.0", "2.20.0", False),
        ("2.17.1", "2.21.0", False),
        ("2.21.0", None, True),
    ],
)
def test_the_minor_version_of_tensorflow_must_be_the_same(
    package: Path, built: str, here: str | None, usable: bool
) -> None:
    (package / "metadata.json").write_text(f'{{"tensorflow": "{built}"}}')
    facts = facts_of_folder(package, here)
    assert facts.usable is usable
    assert usable or (facts.trouble and built in facts.trouble and str(here) in facts.trouble)


def test_without_horovod_there_are_no_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "horovod").mkdir()  # a user's folder of that name
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "horovod", raising=False)
    assert horovod_facts() is None


def test_the_hint_is_a_command_of_this_python() -> None:
    assert horovod_hint() == f"{sys.executable} -m harness horovod"
    assert horovod_hint(("gloo", "nccl")).endswith(" horovod --with gloo,nccl")
