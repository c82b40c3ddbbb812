"""The points where a user's own code joins in.

A plug-in is a plain callable registered under a kind and a name::

    from harness.plugins import register

    @register("head", "two_towers")
    def two_towers(features, outputs, draws, width=256):
        ...

The spec lists the file (or an installed entry point of the group ``harness.plugins``) under
``plugins`` and then uses the name as ``plugin:two_towers``.  What each kind is called with is
in ``docs/plugins.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.errors import UsageError

KINDS = ("head", "backbone", "task", "callback", "augmentation", "source", "metric")
PREFIX = "plugin:"

_F = TypeVar("_F", bound=Callable[..., Any])


class Registry:
    """Names to callables, one namespace a kind.  Filled by importing plug-in files."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}

    def register(self, kind: str, name: str) -> Callable[[_F], _F]:
        """Decorator that puts a callable under ``kind`` and ``name``.

        Raises:
            UsageError: the kind is none of :data:`KINDS`, or another callable has the name.
        """
        if kind not in self._known:
            raise UsageError(
                "unknown kind of plug-in",
                got=repr(kind),
                allowed=", ".join(KINDS),
                action="correct the first argument of register()",
            )

        def keep(function: _F) -> _F:
            held = self._known[kind].get(name)
            if held is not None and _origin(held) != _origin(function):
                raise UsageError(
                    f"two plug-ins of kind {kind} are named {name!r}",
                    got=f"{_origin(held)} and {_origin(function)}",
                    action="rename one of them",
                )
            self._known[kind][name] = function
            return function

        return keep

    def get(self, kind: str, name: str) -> Callable[..., Any]:
        """The callable registered under ``kind`` and ``name`` (``plugin:`` may lead).

        Raises:
            UsageError: nothing is registered under that name.
        """
        name = name.removeprefix(PREFIX)
        found = self._known[kind].get(name)
        if found is None:
            raise UsageError(
                f"no plug-in of kind {kind} has this name",
                got=repr(name),
                allowed=", ".join(sorted(self._known[kind])) or "none is registered",
                action="list the file that registers it under plugins: in the spec",
            )
        return found

    def forget(self, module_prefix: str) -> None:
        """Drops what modules whose names begin so have registered."""
        for kind, held in self._known.items():
            self._known[kind] = {
                name: function
                for name, function in held.items()
                if not function.__module__.startswith(module_prefix)
            }

    def names(self, kind: str) -> list[str]:
        """Sorted names registered for ``kind``."""
        return sorted(self._known[kind])


def _origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


registry = Registry()
register = registry.register
