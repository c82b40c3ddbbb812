"""Commands whose output goes to a file, of which the telling lines are shown when one fails."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from harness.runs.storage import storage_error

_TELLING = re.compile(
    r"(\berror:|CMake Error|^ERROR|undefined reference|undefined symbol|No space left|"
    r"^\w*(Error|Exception)\b|Permission denied|Killed)",
    re.IGNORECASE | re.MULTILINE,
)
_LINES = 4


class Log:
    """A file that is made anew, and the commands that write to it.

    Entering raises:
        StorageError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin = 0  # of the last command's output

    def __enter__(self) -> Log:
        try:
            self._file: IO[bytes] = self.path.open("w+b", buffering=0)
        except OSError as error:
            raise storage_error(error, self.path) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def say(self, line: str) -> None:
        """Adds a line."""
        self._file.write(f"{line}\n".encode())

    def run(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        *,
        longest_s: float | None = None,
    ) -> int:
        """Runs a command with all that it starts, and returns its exit code; 124 if it was ended.

        Args:
            longest_s: after so long it is killed, its children too.
        """
        self.say(f"$ {shlex.join(command)}")
        self._begin = self._file.seek(0, os.SEEK_END)
        try:
            process = subprocess.Popen(  # noqa: S603 - a list, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._file,
                stderr=subprocess.STDOUT,
                # No folder of the user's, in which a file may pass for a Python module.
                cwd="/",
                env=dict(variables),
                start_new_session=True,
            )
        except OSError as error:
            self.say(f"error: {error}")
            return 127
        try:
            return process.wait(longest_s)
        except subprocess.TimeoutExpired:
            self.say(f"error: ended after {longest_s:.0f} s")
            return 124
        finally:
            # Whatever it started and left, also when Ctrl-C ended the waiting.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def telling(self) -> str:
        """The first lines of the last command's output that name an error, else its last."""
        text = self.path.read_bytes()[self._begin :].decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        found = [line for line in lines if _TELLING.search(line)]
        chosen = found[:_LINES] or lines[-_LINES:] or ["no output"]
        return " | ".join(line[:300] for line in chosen)
