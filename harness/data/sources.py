"""Where the content of an example comes from: a file of a folder, or a plug-in.

A plug-in of kind ``source`` is called as ``source(path: str, options: dict)`` and returns an
object with

- ``names``: unique texts, one an example, that stay the same from run to run (the random draws
  of an example hang on its name);
- ``labels``: for each name a row of ``classes``;
- ``classes``: texts, two or more;
- ``digest``: a text that changes when the data changes;
- ``load(name)``: graph code from a string scalar to uint8 [height, width, 3], of texts to a string
  scalar, of recordings to float32 [samples] of the spec's rate.  An error raised when it runs makes
  the example corrupt; it must not draw random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from harness.data.corrupt import probe
from harness.data.index import ExampleIndex
from harness.data.scan import refuse_bad_names
from harness.errors import DataError
from harness.plugins import registry

if TYPE_CHECKING:
    from harness.data.content import Content

_PARTS = ("names", "labels", "classes", "digest", "load")
Load = Callable[[tf.Tensor], tf.Tensor]


def folder_loader(index: ExampleIndex, content: Content) -> Load:
    """Graph code that reads and decodes an example of a folder by its relative name."""
    root = str(index.root)

    def load(name: tf.Tensor) -> tf.Tensor:
        return content.decode(tf.io.read_file(tf.strings.join([root, "/", name])))

    return load


def plugin_source(
    name: str, path: str, options: Mapping[str, Any], classes: Sequence[str] | None = None
) -> tuple[ExampleIndex, Load]:
    """The examples that a plug-in gives, sorted by name, and its ``load``.

    Args:
        name: of the plug-in.
        path: ``data.train``, ``data.validation`` or ``data.test``; may be empty.
        options: from the spec.
        classes: those of the training data, which the plug-in must then give too.

    Raises:
        UsageError: no such plug-in.
        DataError: what it gives is not as described above.
    """
    source = registry.get("source", name)(path, dict(options))
    lacking = [part for part in _PARTS if not hasattr(source, part)]
    if lacking:
        raise DataError(f"the source {name!r} gives no {', '.join(lacking)}")
    names, labels = list(source.names), [int(label) for label in source.labels]
    known = tuple(source.classes)
    _check(name, names, labels, known)
    if classes is not None and known != tuple(classes):
        raise DataError(
            f"the source {name!r} gives other classes for {path!r} than for training",
            got=repr(known[:5]),
            allowed=repr(tuple(classes)[:5]),
        )
    rows = sorted(range(len(names)), key=names.__getitem__)
    index = ExampleIndex(
        root=Path(path),
        names=[names[row] for row in rows],
        labels=[labels[row] for row in rows],
        classes=known,
        sizes=(),
        digest=f"plugin:{source.digest}",
    )
    # In a tf.function of its own, so that a plug-in may use `if` and `for` on tensors.
    return index, tf.function(source.load)


def reason_for(
    index: ExampleIndex, load: Load | None, name: str, fault: Callable[[Path], str] = probe
) -> str:
    """Why an example could not be loaded: a file is looked at, a plug-in's load tried again.

    Args:
        fault: says what is wrong with a file.
    """
    if load is None:
        return fault(index.root / name)
    try:
        # Without its tf.function, whose message would be a page of stack.
        getattr(load, "python_function", load)(tf.constant(name))
    # A plug-in may raise anything, and whatever it is, it is the reason.
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return "could not be loaded in the pipeline, can be now"


def _check(plugin: str, names: list[str], labels: list[int], classes: tuple[str, ...]) -> None:
    what = f"the source {plugin!r} gives "
    if not names:
        raise DataError(f"{what}no examples")
    if len(names) != len(labels):
        raise DataError(f"{what}{len(names)} names but {len(labels)} labels")
    if len(set(names)) != len(names):
        raise DataError(f"{what}the same name for two examples")
    if len(classes) < 2:
        raise DataError(f"{what}fewer than two classes", got=repr(classes))
    if min(labels) < 0 or max(labels) >= len(classes):
        raise DataError(
            f"{what}a label that is no row of its {len(classes)} classes",
            got=f"labels from {min(labels)} to {max(labels)}",
        )
    refuse_bad_names(names)
