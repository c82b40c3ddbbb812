"""Examples that cannot be read or decoded: counted, recorded by name, limited."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

from harness.errors import DataError, SpecError
from harness.runs.files import append_line, read_lines

_SAY = 5
_TAIL = 4096
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF", b"BM": "BMP"}
_RIFF, _WEBP = b"RIFF", b"WEBP"


class CorruptRecorder:
    """The corrupt examples of a run, each once, in memory and in a ``.jsonl`` file.

    Lines are ``{"split": ..., "name": ..., "reason": ...}``, names as in the index; all splits
    of a run share the file.  A file that is already there (a resumed run) is read first, so what
    was found before counts.  Thread safe.

    Args:
        total: examples of the split.
        policy: ``skip`` (they get mask 0) or ``fail`` (at the first one).
        limit: with ``skip``, the most that may be corrupt, as a fraction of ``total`` (0 to 1),
            rounded up: any fraction above 0 lets one pass, 1 lets all pass.
        file: where the lines go; None keeps them in memory.
        split: which split this is, ``train``, ``validation`` or ``test``.
        hide_names: do not name files in errors (``data.sensitive``).
        tell: called with name and reason of every example that is new here.

    Raises:
        SpecError: unknown policy, or a limit that is no fraction.
        StorageError: the file cannot be read.
    """

    def __init__(
        self,
        total: int,
        policy: str = "skip",
        limit: float = 0.001,
        file: Path | None = None,
        *,
        split: str = "train",
        hide_names: bool = False,
        tell: Callable[[str, str], None] | None = None,
    ) -> None:
        if policy not in ("skip", "fail"):
            raise SpecError(
                "unknown policy", got=repr(policy), allowed="skip, fail", path="data.corrupt.policy"
            )
        if not 0 <= limit <= 1:  # nan neither
            raise SpecError(
                "the limit must be a fraction of the split",
                got=str(limit),
                allowed="0 to 1 (in a spec, 0% to 100%)",
                path="data.corrupt.limit",
            )
        self.policy = policy
        # 0.07 * 100 is a little more than 7 in floating point; 7 is meant.
        self.allowed = math.ceil(limit * total * (1 - 1e-12))
        self._total = total
        self._split = split
        self._file = file
        self._hide_names = hide_names
        self._tell = tell
        self._lock = threading.Lock()
        self._reasons: dict[str, str] = {}
        if file is not None:
            lines, _ = read_lines(file)
            mine = [line for line in lines if line.get("split") == split]
            self._reasons = {line["name"]: line["reason"] for line in mine}

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def reasons(self) -> dict[str, str]:
        """Reason by name, in the order in which they were met."""
        with self._lock:
            return dict(self._reasons)

    def add(self, name: str, reason: str) -> None:
        """Records an example; one that is already recorded stays as it is.

        Raises:
            StorageError: the line cannot be written.
        """
        with self._lock:
            if name in self._reasons:
                return
            self._reasons[name] = reason
            if self._file is not None:
                line = {"split": self._split, "name": name, "reason": reason}
                append_line(self._file, json.dumps(line))
        if self._tell is not None:
            self._tell(name, reason)

    def check(self) -> None:
        """To be called between steps.

        Raises:
            DataError: more examples are corrupt than the policy allows; names the first ones.
        """
        held = self.reasons
        allowed = 0 if self.policy == "fail" else self.allowed
        if len(held) <= allowed:
            return
        shown = [f"{name!r} ({reason})" for name, reason in list(held.items())[:_SAY]]
        more = f" and {len(held) - _SAY} more" if len(held) > _SAY else ""
        where = f", all in {self._file}" if self._file is not None else ""
        rule = "data.corrupt.policy is fail" if self.policy == "fail" else f"at most {allowed}"
        raise DataError(
            f"{len(held)} of {self._total} {self._split} examples cannot be read or decoded",
            got=f"{len(held)} files" if self._hide_names else ", ".join(shown) + more + where,
            allowed=rule,
            action=(
                "replace the files by whole ones of the same name, or raise data.corrupt.limit "
                "(policy: skip); removing them changes the data: a run that has saved a checkpoint "
                "then goes on by `harness fork`, one that has not by the same command"
            ),
            path="data.corrupt",
        )


def probe(path: Path) -> str:
    """Why a file cannot be decoded: looks at its size, its first bytes and its last ones."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(16)
            stream.seek(max(0, size - _TAIL))
            tail = stream.read()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return _fault(size, head, tail)


def picture_kind(head: bytes) -> str | None:
    """Kind of a picture by its first 16 bytes; None where it is no kind that is read here."""
    if head.startswith(_RIFF) and head[8:12] == _WEBP:
        return "WebP"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def probe_content(content: bytes) -> str:
    """As :func:`probe`, of what a file would hold."""
    return _fault(len(content), content[:16], content[-_TAIL:])


def _fault(size: int, head: bytes, tail: bytes) -> str:
    if size == 0:
        return "empty"
    kind = picture_kind(head)
    if kind is None:
        return "not an image (JPEG, PNG, GIF, BMP or WebP)"
    ends = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "GIF": b";"}
    if kind in ends and ends[kind] not in tail:
        return f"truncated {kind}"
    older = " (older TensorFlow reads none)" if kind == "WebP" else ""
    return f"{kind} that cannot be decoded{older}"
