"""Reads YAML as data only, and knows the line of every value.

Built on the parser's events, so that nothing is constructed from tags, aliases cannot multiply
(a budget of values holds them), nesting is bounded, and duplicate keys are seen.  Scalars
follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): `off`, `no`
and `2:00:00` are texts, `1e-3` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import Problem, SpecError

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000
MAX_DEPTH = 40

Where = tuple[str | int, ...]
"""A place in the data: keys of mappings and positions in lists."""

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_FIXED: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass
class Document:
    """The data of a YAML text with the 1-based line of every value, and what was refused."""

    data: Any
    lines: dict[Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def scalar_value(text: str) -> Any:
    """What an unquoted YAML scalar means: null, a boolean, a number, or the text itself."""
    if text in _FIXED:
        return _FIXED[text]
    # Longer digit strings are texts: int() refuses thousands of digits.
    if len(text) <= 300 and _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if len(text) <= 300 and _FLOAT.fullmatch(text):
        return float(text)
    return text


def read_text(path: Path, shown: str) -> str:
    """The text of a small UTF-8 file.

    Raises:
        SpecError: there is no such file, it cannot be read, it is larger than ``MAX_BYTES``,
            binary, or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(_unreadable(error, shown)) from error
    if len(raw) > MAX_BYTES:
        raise SpecError(
            Problem(
                "the file is too large for a spec",
                got=f"more than {MAX_BYTES // 1024} KiB",
                action="check that this is the file you meant",
                file=shown,
            )
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        what = "the file is not text in UTF-8"
        action = "check that this is the file you meant, or save it as UTF-8"
        raise SpecError(Problem(what, action=action, file=shown, line=line)) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        action = "check that this is the file you meant"
        raise SpecError(Problem("the file is binary", action=action, file=shown, line=line))
    return text


def _unreadable(error: OSError, shown: str) -> Problem:
    if isinstance(error, FileNotFoundError):
        return Problem("there is no such file", action="check the path", file=shown)
    if isinstance(error, IsADirectoryError):
        return Problem(
            "this is a folder, a YAML file is needed", action="name a file in it", file=shown
        )
    why = error.strerror or type(error).__name__
    return Problem(f"the file cannot be read ({why})", action="check its permissions", file=shown)


def parse_yaml(text: str, shown: str, *, one_line: bool = False) -> Document:
    """The data of one YAML document; duplicate keys and tags are in ``.problems``.

    Args:
        shown: name of the source in error messages.
        one_line: the text has no lines worth naming (an ``-o`` option).

    Raises:
        SpecError: the text is no YAML, or too deep or too large to be a spec.
    """
    return _Builder(shown, one_line).build(text)


class _Stop(Exception):
    """Leaves the parser at the first problem after which nothing sensible follows."""

    def __init__(self, what: str, line: int, action: str) -> None:
        super().__init__(what)
        self.what, self.line, self.action = what, line, action


class _Builder:
    """Turns the events of one document into a :class:`Document`."""

    def __init__(self, shown: str, one_line: bool) -> None:
        self._shown, self._one_line = shown, one_line
        self._document = Document(None)
        self._anchors: dict[str, Any] = {}
        self._open_anchors: set[str] = set()
        self._count = 0

    def build(self, text: str) -> Document:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError

        try:
            self._read(iter(YAML(typ="safe", pure=True).parse(text)))
        except _Stop as stop:
            raise SpecError(self._problem(stop.what, stop.line, stop.action)) from None
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            reason = (error.problem or error.context or "not readable").replace("\n", " ")
            what = f"this is not YAML ({reason})"
            action = "correct the line (a missing colon, quote, bracket or space?)"
            raise SpecError(self._problem(what, line, action)) from error
        except Exception as error:
            # The scanner fails in many ways on hostile text (ReaderError, IndexError, ...).
            line = _line_of(error, text)
            what = f"this is not YAML ({type(error).__name__})"
            raise SpecError(self._problem(what, line, "remove unusual characters")) from error
        return self._document

    def _read(self, events: Iterator[Any]) -> None:
        documents = 0
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    line = event.start_mark.line + 1
                    raise _Stop("a second document starts here", line, "keep one document a file")
                if event.version is not None and tuple(event.version) != (1, 2):
                    raise _Stop("only YAML 1.2 is read", 1, "remove the %YAML line")
                self._document.data = self._value(events, next(events), (), 0)

    def _problem(self, what: str, line: int, action: str | None, got: str | None = None) -> Problem:
        return Problem(
            what, got=got, action=action, file=self._shown, line=None if self._one_line else line
        )

    def _value(self, events: Iterator[Any], event: Any, where: Where, depth: int) -> Any:
        line = event.start_mark.line + 1
        self._document.lines.setdefault(where, line)
        self._budget(1, depth, line)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event.anchor, where, depth, line)
        self._refuse_tag(event, line)
        if event.anchor is not None:
            self._open_anchors.add(event.anchor)
        if kind == "ScalarEvent":
            plain = event.style is None
            value = scalar_value(event.value) if plain else event.value
        elif kind == "SequenceStartEvent":
            value = self._sequence(events, where, depth)
        else:
            value = self._mapping(events, where, depth)
        if event.anchor is not None:
            self._open_anchors.discard(event.anchor)
            self._anchors[event.anchor] = value
        return value

    def _sequence(self, events: Iterator[Any], where: Where, depth: int) -> list[Any]:
        items: list[Any] = []
        while type(event := next(events)).__name__ != "SequenceEndEvent":
            items.append(self._value(events, event, (*where, len(items)), depth + 1))
        return items

    def _mapping(self, events: Iterator[Any], where: Where, depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        first: dict[str, int] = {}
        while type(event := next(events)).__name__ != "MappingEndEvent":
            line = event.start_mark.line + 1
            if type(event).__name__ != "ScalarEvent":
                raise _Stop("a key must be a plain word", line, "write a word before the colon")
            self._refuse_tag(event, line)
            key = event.value
            if event.style is None and key == "<<":
                raise _Stop("merge keys (<<) are not read", line, "write the fields out")
            if key in items:
                what = f"the key is written twice, first in line {first[key]}"
                problem = self._problem(what, line, "keep one of them", got=repr(key[:80]))
                self._document.problems.append(problem)
            first.setdefault(key, line)
            self._document.lines[(*where, key)] = line
            items[key] = self._value(events, next(events), (*where, key), depth + 1)
        return items

    def _alias(self, anchor: str, where: Where, depth: int, line: int) -> Any:
        if anchor in self._open_anchors or anchor not in self._anchors:
            raise _Stop(f"the alias *{anchor[:40]} has no value", line, "write the value itself")
        return self._copy(self._anchors[anchor], where, depth, line)

    def _copy(self, value: Any, where: Where, depth: int, line: int) -> Any:
        # Copied value by value, so that the budget sees what an alias multiplies.
        self._budget(1, depth, line)
        self._document.lines.setdefault(where, line)
        if isinstance(value, list):
            return [self._copy(v, (*where, i), depth + 1, line) for i, v in enumerate(value)]
        if isinstance(value, dict):
            return {k: self._copy(v, (*where, k), depth + 1, line) for k, v in value.items()}
        return value

    def _budget(self, more: int, depth: int, line: int) -> None:
        self._count += more
        if depth > MAX_DEPTH:
            raise _Stop(f"nested deeper than {MAX_DEPTH} levels", line, "write it flatter")
        if self._count > MAX_VALUES:
            raise _Stop(f"more than {MAX_VALUES} values", line, "check that this is a spec")

    def _refuse_tag(self, event: Any, line: int) -> None:
        if event.tag is not None:
            tag = str(event.tag)[:80]
            problem = self._problem("tags are not read", line, "remove the tag", got=repr(tag))
            self._document.problems.append(problem)


def _line_of(error: Exception, text: str) -> int:
    position = getattr(error, "position", None)
    if isinstance(position, int):
        return text[:position].count("\n") + 1
    return 1
