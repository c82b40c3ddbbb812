"""What each layer (spec, -o, user config, site) says, merged, with the origin of every value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.spec.yaml_read import Document, Where

DEFAULT = "default"


@dataclass(frozen=True)
class Origin:
    """Where a value was written.

    ``label`` opens the source shown to the user (``spec``, ``-o``, ``user config``,
    ``site NAME``); ``base`` is the folder that relative paths start from; ``option`` is the
    whole ``-o`` option, which error messages name instead of a file.
    """

    label: str
    base: Path
    file: str | None = None
    line: int | None = None
    option: str | None = None

    @property
    def source(self) -> str:
        """The source as ``Resolved.sources`` shows it."""
        if self.file is None or self.label.startswith("site "):
            return self.label
        return f"{self.label} {self.file}" + (f":{self.line}" if self.line else "")


@dataclass
class Tree:
    """Plain data (mappings, lists, scalars) with the origin of every place in it."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Where, Origin] = field(default_factory=dict)

    def origin(self, where: Where) -> Origin | None:
        """The origin of a place, or of the nearest place around it."""
        for length in range(len(where), -1, -1):
            found = self.origins.get(where[:length])
            if found is not None:
                return found
        return None

    def put(self, where: Where, value: Any, origin: Origin) -> None:
        """Sets a value, making mappings on the way; what stood there and below is forgotten.

        The way must lead through mappings, and through list positions that exist.
        """
        node: Any = self.data
        for position, key in enumerate(where[:-1]):
            inner = node[key] if isinstance(node, list) else node.get(key)  # type: ignore[index]
            if not isinstance(inner, dict | list):
                inner = {}
                node[key] = inner
                self._forget(where[: position + 1])
                self.origins[where[: position + 1]] = origin
            node = inner
        node[where[-1]] = value
        self._forget(where)
        self.mark(where, value, origin)

    def mark(self, where: Where, value: Any, origin: Origin) -> None:
        """Notes the origin of a value and of everything in it."""
        self.origins[where] = origin
        if isinstance(value, dict):
            for key, inner in value.items():
                self.mark((*where, key), inner, origin)
        elif isinstance(value, list):
            for position, inner in enumerate(value):
                self.mark((*where, position), inner, origin)

    def remove(self, where: Where) -> None:
        """Takes a value out; a list closes the gap (its origins stay as they are)."""
        node: Any = self.data
        for key in where[:-1]:
            node = node[key]
        del node[where[-1]]

    def discard(self, places: Iterable[Where]) -> None:
        """Takes values, where they are there, out of their mappings, with their origins."""
        for where in places:
            node: Any = self.data
            for key in where[:-1]:
                node = node.get(key) if isinstance(node, dict) else None
            if isinstance(node, dict) and where[-1] in node:
                del node[str(where[-1])]
                self._forget(where)

    def _forget(self, where: Where) -> None:
        for place in [place for place in self.origins if place[: len(where)] == where]:
            del self.origins[place]


def tree_from_document(document: Document, label: str, shown: str, base: Path) -> Tree:
    """The tree of a YAML file whose top is a mapping."""
    lines = document.lines.items()
    origins = {where: Origin(label, base, shown, line) for where, line in lines}
    return Tree(document.data, origins)


def merge(upper: Tree, lower: Tree) -> Tree:
    """``upper`` laid over ``lower``: mappings are merged field by field, the rest replaced."""
    merged = Tree(lower.data, dict(lower.origins))
    _lay(merged, upper, (), upper.data)
    return merged


def _lay(merged: Tree, upper: Tree, where: Where, data: dict[str, Any]) -> None:
    for key, value in data.items():
        place = (*where, key)
        node: Any = merged.data
        for part in where:
            node = node.get(part, {})
        if isinstance(value, dict) and isinstance(node.get(key), dict):
            _lay(merged, upper, place, value)
            continue
        origin = upper.origin(place)
        assert origin is not None, "every place of a layer has an origin"
        merged.put(place, value, origin)
        for inner, found in upper.origins.items():
            if inner[: len(place)] == place:
                merged.origins[inner] = found


def dotted(where: Where) -> str | None:
    """A place as users write it, ``training.phases.0.epochs``."""
    parts = (str(part)[:100] for part in where)
    return ".".join(part if part.isprintable() else ascii(part) for part in parts) or None
