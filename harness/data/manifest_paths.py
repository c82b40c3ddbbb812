"""The files that a manifest names, or its texts, for what needs no labels.  Free of TensorFlow."""

from __future__ import annotations

from pathlib import Path

from harness.data.manifest_columns import ManifestOptions, no_column
from harness.data.manifest_files import Root
from harness.data.manifest_rows import Complaints, rows
from harness.errors import DataError


def manifest_texts(file: Path, options: ManifestOptions) -> list[tuple[int, str]]:
    """The texts in a manifest's column of texts, each with its line.

    A row without text is left out or refused, as ``missing_file`` says; no other column has to be
    there.

    Raises:
        DataError: the manifest cannot be used, or holds no text.
    """
    found = _cells(file, options, "the row has no text")
    if not found:
        raise DataError(f"{file} holds no text", allowed="a header, and a row for each text")
    return found


def manifest_paths(file: Path, options: ManifestOptions) -> list[Path]:
    """The paths in a manifest's column of paths, in the order of its rows.

    Whether they are there is not looked at.  A row without path is left out or refused, as
    ``missing_file`` says; no other column has to be there.

    Raises:
        DataError: the manifest cannot be used, or names no file.
    """
    root = Root(Path(options.root) if options.root is not None else file.parent)
    found = [root.folder / root.name(text) for _, text in _cells(file, options)]
    if not found:
        raise DataError(f"{file} names no file", allowed="a header, and a row for each file")
    return found


def _cells(
    file: Path, options: ManifestOptions, lacking: str = "the row names no file"
) -> list[tuple[int, str]]:
    """The cells of the column of examples that are not empty, each with its line."""
    complaints = Complaints(file)
    stream = rows(file, complaints)
    line, header = next(stream, (0, []))
    complaints.refuse()
    name = getattr(options, options.example)
    if name not in header:
        raise DataError(no_column(file, line, header, options, options.example))
    place = header.index(name)
    found = []
    for line, row in stream:
        text = row[place] if place < len(row) else ""
        if text not in options.na_values:
            found.append((line, text))
        elif options.missing_file == "error":
            wanted, action = "a path" if options.text is None else "a text", "remove the row"
            complaints.add(line, lacking, repr(text), wanted, f"write it, or {action}")
    complaints.refuse()
    return found
