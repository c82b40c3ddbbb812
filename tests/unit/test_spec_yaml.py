"""What is no spec at all, and how its YAML is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from spec_helpers import MINIMAL_YAML, problems, write

from harness.errors import ExitCode, SpecError
from harness.spec import load_spec
from harness.spec.yaml_read import MAX_BYTES, parse_yaml


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (b"", None, "the file is empty"),
        (b"# nothing\n", None, "the file is empty"),
        (b"- a\n- b\n", 1, "the spec must be a mapping of fields"),
        (b"just text\n", 1, "the spec must be a mapping of fields"),
        (b"name: \xff\xfe\n", 1, "the file is not text in UTF-8"),
        (b"a: 1\nb: \x00\n", 2, "the file is binary"),
        (b"x" * (MAX_BYTES + 1), None, "the file is too large for a spec"),
        (b"a: 1\nb: [1, 2\nc: 3\n", 3, "this is not YAML"),
        (b"a: 1\n  b: 2\n", 2, "this is not YAML"),
        (b"a: 1\n---\nb: 2\n", 2, "a second document starts here"),
        (b"%YAML 1.1\n---\na: 1\n", 1, "only YAML 1.2 is read"),
        (b"a: " + b"[" * 500, 1, "nested deeper"),
        (b"[a, b]: 1\n", 1, "a key must be a plain word"),
        (b"a: &x 1\nb:\n  <<: *x\n", 3, "merge keys (<<) are not read"),
        (b"a: *x\n", 1, "the alias *x has no value"),
        (b"a: &x [*x]\n", 1, "the alias *x has no value"),
        (
            b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + b"".join(
                b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 10))
                for i in range(6)
            ),
            5,
            "more than",
        ),
        (b"name: \x07\n", 1, "this is not YAML"),
    ],
)
def test_what_is_no_spec_at_all(
    tmp_path: Path, content: bytes, line: int | None, what: str
) -> None:
    job = write(tmp_path, content)
    (problem,) = problems(job)
    assert problem.what.startswith(what)
    assert (problem.file, problem.line) == (str(job), line)
    assert problem.action


def test_tags_and_keys_written_twice_are_named_with_the_rest(tmp_path: Path) -> None:
    text = MINIMAL_YAML + "name: again\ntraining: !!python/object:os.system {seed: x}\n"
    found = problems(write(tmp_path, text))
    assert [(p.line, p.what) for p in found] == [
        (5, "the key is written twice, first in line 2"),
        (6, "tags are not read"),
        (6, "is of the wrong type"),
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml")[0].what == "there is no such file"
    assert problems(tmp_path)[0].what.startswith("this is a folder")
    assert SpecError("x").exit_code == ExitCode.USAGE


def test_plain_aliases_are_read(tmp_path: Path) -> None:
    text = MINIMAL_YAML + "head: {hidden: &h [8, 4]}\nabout: {authors: &a [x]}\n"
    assert load_spec(write(tmp_path, text)).spec.head.hidden == (8, 4)
    document = parse_yaml("a: &x {b: [1, 2]}\nc: *x\n", "f")
    assert document.data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}
    assert document.lines[("c", "b", 1)] == 2


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-4", 0.0001),
        ("010", 10),
        ("0x1f", 31),
        ("off", "off"),
        ("no", "no"),
        ("2:00:00", "2:00:00"),
        ("2026-11-22", "2026-11-22"),
        ("~", None),
        ("", None),
        ("TRUE", True),
        ("'1'", "1"),
        ("1_000", "1_000"),
        ("9" * 400, "9" * 400),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, value: Any) -> None:
    assert parse_yaml(f"a: {written}\n", "f").data == {"a": value}
    assert type(parse_yaml(f"a: {written}\n", "f").data["a"]) is type(value)
