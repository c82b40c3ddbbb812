"""What the ranks of a run tell of the staging on their nodes, gathered on rank 0."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue
from typing import Any

Notice = dict[str, Any]
"""What happened: ``node``, and ``text`` for people; of a copied set also ``set`` and ``facts``."""

_NOTICES = 20
"""Of a node that are recorded; of more their number is."""


class Notices:
    """What all ranks told of staging, on rank 0; taken out between two calls of the loop."""

    def __init__(self) -> None:
        self._told: SimpleQueue[Notice] = SimpleQueue()
        self.by_node: dict[str, dict[str, Any]] = {}

    def add(self, notice: Notice) -> None:
        """Takes a notice, from any thread."""
        self._told.put(notice)

    def take(self) -> list[str]:
        """Lines for the user of what came since; :attr:`by_node` holds all of it then."""
        lines = []
        with contextlib.suppress(Empty):
            while True:
                notice = self._told.get_nowait()
                lines.append(f"staging on {notice['node']}: {notice['text']}")
                self._enter(notice)
        return lines

    def _enter(self, notice: Notice) -> None:
        node = self.by_node.setdefault(notice["node"], {"sets": {}, "notices": [], "more": 0})
        if "facts" in notice:
            node["sets"][notice["set"]] = notice["facts"]
        if len(node["notices"]) < _NOTICES:
            node["notices"].append(notice["text"])
        else:
            node["more"] += 1
