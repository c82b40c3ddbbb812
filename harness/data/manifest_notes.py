"""What a user is told of a manifest that can be used.  Free of TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator

from harness.data.index import ExampleIndex
from harness.data.manifest_columns import ManifestOptions
from harness.data.scan import listed


def manifest_notes(
    of: str,
    index: ExampleIndex,
    options: ManifestOptions,
    fill: float | None,
    again: int,
    *,
    given: bool,
) -> Iterator[str]:
    """Sentences about the examples of one split.

    Args:
        of: how they are called.
        fill: what a missing weight was taken as.
        again: rows with a text that had come before.
        given: the classes were not taken from these examples, so some may be lacking here.
    """
    absent = [name for name, count in index.counts().items() if not count]
    if absent and (given or options.numeric):
        lacks, many = ("no value", "targets") if options.numeric else ("no examples", "classes")
        yield f"{of} has {lacks} of {len(absent)} of {len(index.classes)} {many}: {listed(absent)}"
    if again:
        rows = "1 row repeats" if again == 1 else f"{again} rows repeat"
        yield (
            f"warning: {of}: {rows} a text that stands further up; where a fraction is split "
            "off, equal texts may come to both sides, unless they share a data.columns.group"
        )
    for kind, count in sorted(index.missing.items()):
        rows = f"{count} row{'' if count == 1 else 's'}"
        if kind == "weight_imputed":
            yield f"{of}: {rows} without weight, taken as {fill:g} ({options.missing_field})"
        else:
            yield f"{of}: {rows} without {kind.removesuffix('_dropped')} left out"
