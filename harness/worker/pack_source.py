"""What is to be packed: a folder, a manifest, or one of the data sets of a spec."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.index import ExampleIndex, folder_index
from harness.data.manifest import manifest_index
from harness.data.manifest_columns import ManifestOptions
from harness.data.manifest_rows import Complaints, is_manifest, rows
from harness.data.media import IMAGE, medium_of
from harness.data.packed import is_packed
from harness.data.scan import listed, refuse
from harness.data.sets import open_sets
from harness.errors import DataError, Problem, UsageError
from harness.spec.models_data import ValidationFraction

if TYPE_CHECKING:
    from harness.data.packed_examples import PackedExamples
    from harness.spec import Spec

TRAIN, VALIDATION = "train", "validation"
_MOST_BYTES = (1 << 31) - (1 << 20)
"""Of an example: a tf.Example with its other features ends at 2 GB."""


@dataclass(frozen=True)
class PackSource:
    """Where examples are packed from.

    Attributes:
        path: a folder with one for each class, or a manifest; of a spec its file.
        medium: what the examples are; None takes pictures, or what the spec says.
        spec: whose data are packed, with their columns and what is done about missing values.
        split: which of a spec's data: ``train``, ``validation`` or ``test``.
    """

    path: Path
    medium: str | None = None
    spec: Spec | None = None
    split: str = TRAIN

    def __post_init__(self) -> None:
        if self.spec is None and self.split != TRAIN:
            raise UsageError(
                "which part is packed is a matter of a spec",
                got=f"--split {self.split} with {self.path}",
                allowed="a spec (.yaml), whose data are packed",
                action="name the spec, or leave --split out",
            )
        if self.spec is not None and self.medium not in (None, self.spec.medium):
            raise UsageError(
                "the spec says what its examples are",
                got=f"--medium {self.medium} with a task of {medium_of(self.spec.medium).many}",
                action="leave --medium out",
            )

    @property
    def held(self) -> str:
        """The name of its medium."""
        return self.spec.medium if self.spec is not None else self.medium or IMAGE.name

    @property
    def sensitive(self) -> bool:
        """Whether no message may name an example."""
        return self.spec is not None and self.spec.data.sensitive

    @property
    def packed(self) -> Path | None:
        """What is to be packed, where that has been packed already."""
        path: object = self.path
        if self.spec is not None:
            # Validation and test data may be rows of the manifest of training.
            named = getattr(self.spec.data, self.split)
            path = named if isinstance(named, str) else self.spec.data.train
        return Path(path) if isinstance(path, str | Path) and is_packed(Path(path)) else None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that must not hold the packed set, since each in them is a class."""
        paths = (self.path,) if self.spec is None else _paths(self.spec)
        return tuple(path for path in paths if path.is_dir() and not is_packed(path))

    @property
    def paths(self) -> tuple[Path, ...]:
        """What a job has to see beside :attr:`path`: also where paths in a manifest start."""
        named = (self.path,) if self.spec is None else _paths(self.spec)
        roots = (path.parent for path in named if is_manifest(path))
        own = Path(self.spec.data.root) if self.spec is not None and self.spec.data.root else None
        return (*named, *((own,) if own is not None else roots))

    @property
    def cluster(self) -> dict[str, str | None]:
        """Where the spec's own jobs run; empty without one."""
        if self.spec is None:
            return {}
        return {"site": self.spec.cluster.site, "account": self.spec.cluster.account}

    def index(self) -> ExampleIndex:
        """The examples.

        Raises:
            DataError: they cannot be used, or cannot be packed.
        """
        if self.spec is not None:
            index = _of_spec(self.spec, self.split)
        elif is_manifest(self.path):
            index = _of_manifest(self.path, ManifestOptions(medium=medium_of(self.held)))
        else:
            index = folder_index(self.path, medium=medium_of(self.held))
        _refuse_large(index, self.sensitive)
        return index


def _paths(spec: Spec) -> tuple[Path, ...]:
    named = (spec.data.train, spec.data.validation, spec.data.test)
    return tuple(Path(path) for path in named if isinstance(path, str))


def _of_manifest(path: Path, options: ManifestOptions) -> ExampleIndex:
    """The examples of a manifest without a spec; its notes say which columns were not looked at."""
    _, header = next(rows(path, Complaints(path)), (0, []))
    lacking = [name for name in ("file", "label") if header and name not in header]
    if lacking:
        raise DataError(
            f"{path} has no column {listed(lacking)}",
            got=f"the columns {listed(header)}",
            allowed="a manifest of files with one class each, in the columns 'file' and 'label'",
            action="pack a spec that says what these columns are (data.columns), as several labels "
            "for each example or numbers: `harness pack SPEC DST`",
        )
    index = manifest_index(path, options)
    others = [name for name in header if name not in (options.path, options.label)]
    if not others:
        return index
    note = (
        f"{path}: its columns {listed(others)} are not packed; what they are a spec says "
        "(data.columns), which can be packed in its place"
    )
    return replace(index, notes=(*index.notes, note))


def _of_spec(spec: Spec, split: str) -> ExampleIndex:
    """All examples of a split, as a run from the spec would have them."""
    data = spec.data
    if data.source is not None:
        raise _not_packed("examples of a plug-in", f"data.source: {data.source}", "data.source")
    drawn = split == VALIDATION and isinstance(data.validation, ValidationFraction)
    in_rows = is_manifest(str(data.train)) and data.columns.split is not None
    if drawn and not in_rows:
        raise _no_data(spec, split)
    # All of the training data: what is held back of them is drawn anew where they are used.
    whole = data.model_copy(update={"validation": None}) if split != VALIDATION else data
    sets = open_sets(whole, spec.training.seed, None, spec.medium, learned=spec.learned)
    index: ExampleIndex | PackedExamples | None = getattr(sets, split)
    # Rows of a manifest go before a fraction, and are no part of another set.
    if index is None or (drawn and (not isinstance(index, ExampleIndex) or index.whole)):
        raise _no_data(spec, split)
    if not isinstance(index, ExampleIndex):
        raise _not_packed("a packed set", f"data.{split}: {getattr(data, split)}", f"data.{split}")
    return index


def _no_data(spec: Spec, split: str) -> DataError:
    named = getattr(spec.data, split)
    return DataError(
        f"the spec names no {split} data that could be packed",
        got=f"data.{split}: {'a fraction' if isinstance(named, ValidationFraction) else named}",
        allowed="a path, or rows of the manifest that are marked so (data.columns.split)",
        action="pack the training data: a fraction is held back from them when they are used",
        path=f"data.{split}",
    )


def _not_packed(what: str, got: str, path: str) -> DataError:
    return DataError(
        f"{what} cannot be packed",
        got=got,
        allowed="examples in a folder, a manifest or TFRecord files",
        action="train from the data as they are",
        path=path,
    )


def _refuse_large(index: ExampleIndex, sensitive: bool) -> None:
    refuse(
        Problem(
            f"{'an example' if sensitive else index.root / name} is too large for a record",
            got=f"{size} bytes",
            allowed=f"less than {_MOST_BYTES} bytes",
            action="remove it from the data",
        )
        for name, size in zip(index.names, index.sizes, strict=True)
        if size >= _MOST_BYTES
    )
