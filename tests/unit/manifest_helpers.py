"""Manifests to read, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import DataError

TWO = "file,label\na.png,x\nb.png,y\n"


def write(folder: Path, text: str | bytes, name: str = "m.csv", files: str = "") -> Path:
    """A manifest, beside it the files that are named, or those that the text seems to name."""
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = files or (text if isinstance(text, str) else text.decode(errors="replace"))
    for word in words.replace("\t", ",").replace('"', "").replace("\n", ",").split(","):
        if word.endswith(".png") and not word.startswith(("/", "..", "gone")):
            (folder / word).parent.mkdir(parents=True, exist_ok=True)
            (folder / word).write_bytes(b"x")
    return file


def problems(call) -> list:
    with pytest.raises(DataError) as caught:
        call()
    return list(caught.value.problems)
