"""Examples whose labels are not read, and need not be there.  Free of TensorFlow."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.index import ExampleIndex, metadata_digest
from harness.data.manifest_columns import ManifestOptions
from harness.data.manifest_files import Root, facts_of_files
from harness.data.manifest_paths import manifest_paths, manifest_texts
from harness.data.manifest_rows import is_manifest
from harness.data.media import Medium
from harness.data.packed import is_packed
from harness.data.scan import listed, refuse, refuse_bad_names, scan
from harness.data.tfds import is_tfds
from harness.errors import DataError, Problem

if TYPE_CHECKING:
    from harness.data.packed_examples import PackedExamples

CLASS = "unlabelled"
"""The one class that all of them are given."""


def unlabelled_index(path: str, options: ManifestOptions) -> ExampleIndex | PackedExamples:
    """All examples of a folder and the folders in it, of a manifest, or of a packed set.

    Of a manifest all rows are taken, and the column of paths or texts alone is read.

    Args:
        options: how a manifest is read, and of what medium the examples are.

    Raises:
        DataError: it is not usable, or is something else.
    """
    medium = options.medium
    if is_manifest(path):
        return _texts(Path(path), options) if options.text is not None else _rows(path, options)
    if is_packed(Path(path)):
        from harness.data.packed_examples import PackedExamples
        from harness.data.sets import open_index

        found = open_index(path, None, medium.name)
        assert isinstance(found, PackedExamples), "as its folder was seen to be"
        # Of several labels or numbers nothing is looked up either.
        count = len(found.packed.classes)
        return replace(
            found, classes=(CLASS,), label_of=(0,) * count, by_class=(len(found),), targets=None
        )
    if is_tfds(path):
        raise DataError(
            f"{path} is a directory of TensorFlow Datasets, which is not read without its labels",
            allowed="a folder, a manifest (.csv, .tsv) or a packed set",
            action="pack it first with `harness pack`",
        )
    return _folder(Path(path), medium)


def _folder(root: Path, medium: Medium) -> ExampleIndex:
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder" if root.exists() else f"{root} does not exist",
            allowed=f"a folder with {medium.many}, a manifest (.csv, .tsv) or a packed set",
            action="check the path, and that its storage is mounted here",
        )
    found = scan(root, ".", medium)
    refuse(found.problems)
    files = sorted((name.removeprefix("./"), size, time) for name, size, time in found.files)
    if not files:
        others = ", ".join(f"{n} .{kind}" for kind, n in sorted(found.ignored.items()))
        raise DataError(
            f"{root} holds no {medium.many}",
            got=others or "no files",
            allowed=f"files ending in {medium.kinds}",
        )
    notes = []
    if found.broken:
        notes.append(f"{root}: {len(found.broken)} broken links were left out")
    if found.ignored:
        count = sum(found.ignored.values())
        notes.append(f"{root}: {count} files that are no {medium.many} were left out")
    names, sizes, times = zip(*files, strict=True)
    return _index(root, names, sizes, times, metadata_digest(names, sizes, times), notes=notes)


def _rows(path: str, options: ManifestOptions) -> ExampleIndex:
    file = Path(path)
    root = Root(Path(options.root) if options.root is not None else file.parent)
    names = sorted({root.name(str(one)) for one in manifest_paths(file, options)})
    refuse_bad_names(names)
    facts = facts_of_files(root.folder, names, range(len(names)))
    odd = [names[at] for at in facts.odd]
    lost = [name for name, size in zip(names, facts.sizes, strict=True) if size < 0]
    if odd or (lost and options.missing_file == "error"):
        kind = "cannot be used" if odd else "are not there"
        raise DataError(
            Problem(
                f"{len(odd or lost)} files that {file} names {kind}",
                "not shown (data.sensitive)" if options.sensitive else listed(odd or lost),
                f"paths of files below {root.folder}",
                "correct them, or set data.missing.file to drop where they are not there",
            )
        )
    kept = [at for at, size in enumerate(facts.sizes) if size >= 0]
    if not kept:
        raise DataError(f"of the files that {file} names none is there")
    names = [names[at] for at in kept]
    sizes, times = ([values[at] for at in kept] for values in (facts.sizes, facts.mtimes))
    missing = {"file_dropped": len(lost)} if lost else {}
    digest = metadata_digest(names, sizes, times)
    return _index(root.folder, names, sizes, times, digest, missing=missing)


def _texts(file: Path, options: ManifestOptions) -> ExampleIndex:
    found = [text.encode() for _, text in manifest_texts(file, options)]
    # A text that is there twice counts twice; its name is that of its bytes.
    named: list[tuple[str, bytes]] = []
    seen: dict[str, int] = {}
    for text in found:
        name = hashlib.sha256(text).hexdigest()
        number = seen[name] = seen.get(name, 0) + 1
        named.append((name if number == 1 else f"{name}#{number}", text))
    named.sort()
    names, texts = [name for name, _ in named], [text for _, text in named]
    sizes, times = [len(text) for text in texts], [0] * len(texts)
    digest = metadata_digest(names, sizes, times)
    return _index(file.parent, names, sizes, times, digest, texts=texts)


def _index(
    root: Path,
    names: Sequence[str],
    sizes: Sequence[int],
    mtimes: Sequence[int],
    digest: str,
    *,
    notes: Sequence[str] = (),
    texts: Sequence[bytes] = (),
    missing: dict[str, int] | None = None,
) -> ExampleIndex:
    return ExampleIndex(
        root=root,
        names=list(names),
        labels=array("l", [0]) * len(names),
        classes=(CLASS,),
        sizes=array("q", sizes),
        digest=digest,
        mtimes=array("q", mtimes),
        notes=tuple(notes),
        texts=texts,
        missing=missing or {},
    )
