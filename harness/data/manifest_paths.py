"""The files that a manifest names, for what needs no labels.  Free of TensorFlow."""

from __future__ import annotations

from pathlib import Path

from harness.data.manifest_columns import ManifestOptions, no_column
from harness.data.manifest_files import Root
from harness.data.manifest_rows import Complaints, rows
from harness.errors import DataError


def manifest_paths(file: Path, options: ManifestOptions) -> list[Path]:
    """The paths in a manifest's column of paths, in the order of its rows.

    Whether they are there is not looked at.  A row without path is left out or refused, as
    ``missing_file`` says; no other column has to be there.

    Raises:
        DataError: the manifest cannot be used, or names no file.
    """
    complaints = Complaints(file)
    root = Root(Path(options.root) if options.root is not None else file.parent)
    stream = rows(file, complaints)
    line, header = next(stream, (0, []))
    complaints.refuse()
    if options.path not in header:
        raise DataError(no_column(file, line, header, options, "path"))
    place = header.index(options.path)
    found = []
    for line, row in stream:
        text = row[place] if place < len(row) else ""
        if text not in options.na_values:
            found.append(root.folder / root.name(text))
        elif options.missing_file == "error":
            action = "write it, or remove the row"
            complaints.add(line, "the row names no file", repr(text), "a path", action)
    complaints.refuse()
    if not found:
        raise DataError(f"{file} names no file", allowed="a header, and a row for each file")
    return found
