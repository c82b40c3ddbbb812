"""Reads a CSV or TSV file row by row, and keeps account of what is wrong with it.

Nothing here knows what the columns mean.  Free of TensorFlow.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from harness.errors import DataError, Problem

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""What stands between two cells, by the ending of the file."""

_SAY = 5
_KEEP = 64


def is_manifest(path: str | Path) -> bool:
    """Whether a path is that of a manifest, which its ending says; there need not be a file."""
    return Path(path).suffix.lower() in DELIMITERS and not Path(path).is_dir()


class Complaints:
    """What is wrong with a file, of which the first ones are kept and the rest is counted."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)
        self._held: list[Problem] = []
        self._count = 0

    def add(
        self,
        line: int,
        what: str,
        got: str | None = None,
        allowed: str | None = None,
        action: str | None = None,
    ) -> None:
        """One more; ``line`` counts from 1, the rest is as in :class:`Problem`."""
        self._count += 1
        self._held.append(Problem(what, got, allowed, action, file=self._file, line=line))
        if len(self._held) > _KEEP:
            self._sort()

    def refuse(self) -> None:
        """To be called at the end.

        Raises:
            DataError: there is something; shows the first of it by line.
        """
        if not self._count:
            return
        self._sort()
        rest = self._count - len(self._held)
        more = [Problem(f"and {rest} more problems in {self._file}")] if rest > 0 else []
        raise DataError(self._held + more)

    def _sort(self) -> None:
        # Stable: of one line the problems stay as they came.
        self._held.sort(key=lambda problem: problem.line or 0)
        del self._held[_SAY:]


def rows(file: Path, complaints: Complaints) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file: the line where each begins, and its cells without the space around them.

    Cells may be quoted, then they may hold delimiters and line ends.  Empty lines are left out.
    The first row is the header.  What is no UTF-8 or breaks the quoting is a complaint.

    Raises:
        DataError: the file cannot be opened or read.
    """
    try:
        with file.open("rb") as stream:
            yield from _rows(stream, DELIMITERS[file.suffix.lower()], complaints)
    except FileNotFoundError:
        raise DataError(
            f"{file} does not exist", action="check the path, and that its storage is mounted here"
        ) from None
    except OSError as error:
        raise DataError(f"{file} cannot be read", got=str(error.strerror)) from error


def _rows(
    stream: BinaryIO, delimiter: str, complaints: Complaints
) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(_texts(stream, complaints), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            complaints.add(
                line,
                "cannot be read as a table from here on",
                str(error),
                'cells without quotes, or in quotes with each quote inside written twice ("")',
                "correct the quotes and line ends of this row",
            )
            return
        if row:
            yield line, [cell.strip() for cell in row]
        line = reader.line_num + 1


def _texts(stream: BinaryIO, complaints: Complaints) -> Iterator[str]:
    # Lines are decoded one by one, so that a wrong byte is found in its line.
    for number, raw in enumerate(stream, 1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            complaints.add(
                number,
                "is not UTF-8",
                f"byte {raw[error.start]:#04x}",
                "UTF-8, with or without a byte order mark",
                "save it as UTF-8 (iconv -f latin1 -t utf8 does it for Western European text)",
            )
            text = raw.decode(errors="replace")
        yield text.removeprefix("\ufeff") if number == 1 else text
