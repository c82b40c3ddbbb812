"""What is to be packed: a folder, a manifest, or one of the data sets of a spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.index import ExampleIndex, folder_index
from harness.data.manifest import manifest_index
from harness.data.manifest_columns import ManifestOptions
from harness.data.manifest_rows import is_manifest
from harness.data.media import IMAGE, medium_of
from harness.data.scan import refuse
from harness.data.sets import open_sets
from harness.errors import DataError, Problem, UsageError
from harness.spec.models_data import ValidationFraction

if TYPE_CHECKING:
    from harness.data.packed_examples import PackedExamples
    from harness.spec import Spec

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")
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
    def folder(self) -> Path | None:
        """The folder that must not hold the packed set, since each in it is a class."""
        path = self.path if self.spec is None else Path(self.spec.data.train or self.path)
        return path if path.is_dir() else None

    @property
    def paths(self) -> tuple[Path, ...]:
        """What a job has to see beside :attr:`path`."""
        named = getattr(self.spec.data, self.split) if self.spec is not None else None
        return (Path(named),) if isinstance(named, str) else ()

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
        elif is_manifest(str(self.path)):
            index = manifest_index(self.path, ManifestOptions(medium=medium_of(self.held)))
        else:
            index = folder_index(self.path, medium=medium_of(self.held))
        _refuse_large(index)
        return index


def _of_spec(spec: Spec, split: str) -> ExampleIndex:
    """All examples of a split, as a run from the spec would have them."""
    data = spec.data
    if data.source is not None:
        raise _not_packed("examples of a plug-in", f"data.source: {data.source}", "data.source")
    # All of the training data: what is held back of them is drawn anew where they are used.
    whole = data.model_copy(update={"validation": None}) if split != VALIDATION else data
    sets = open_sets(whole, spec.training.seed, None, spec.medium, numeric=spec.numeric)
    index: ExampleIndex | PackedExamples | None = getattr(sets, split)
    held_back = split == VALIDATION and isinstance(data.validation, ValidationFraction)
    # Rows of a manifest go before a fraction, and are no part of another set.
    if index is None or (held_back and (not isinstance(index, ExampleIndex) or index.whole)):
        raise DataError(
            f"the spec names no {split} data that could be packed",
            got=f"data.{split}: {getattr(data, split)!r}",
            allowed="a path, or rows of the manifest that are marked so (data.columns.split)",
            action="pack the training data: a fraction is held back from them when they are used",
            path=f"data.{split}",
        )
    if not isinstance(index, ExampleIndex):
        raise _not_packed("a packed set", f"data.{split}: {getattr(data, split)}", f"data.{split}")
    if index.targets or index.values is not None:
        raise _not_packed("several labels or numbers at once", f"task: {spec.task}", "task")
    return index


def _not_packed(what: str, got: str, path: str) -> DataError:
    return DataError(
        f"{what} cannot be packed",
        got=got,
        allowed="examples of one class each in a folder, a manifest or TFRecord files",
        action="train from the data as they are",
        path=path,
    )


def _refuse_large(index: ExampleIndex) -> None:
    refuse(
        Problem(
            f"{index.root / name} is too large for a record",
            got=f"{size} bytes",
            allowed=f"less than {_MOST_BYTES} bytes",
            action="remove it from the data",
        )
        for name, size in zip(index.names, index.sizes, strict=True)
        if size >= _MOST_BYTES
    )
