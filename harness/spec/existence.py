"""Whether what a spec names is there: data, backbone, plug-in files.

Kept apart from loading, since a spec may be checked where its data is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harness.errors import Problem
from harness.spec.base import show
from harness.spec.config import Trust
from harness.spec.handles import ARCHIVES, archive_of, module_path
from harness.spec.load import Resolved
from harness.spec.models import Spec
from harness.spec.models_container import STORE, Container, container_of
from harness.spec.plugin_files import check_plugin
from harness.spec.trust import strangers

Found = tuple[str, Problem]


def check_paths(spec: Spec | Resolved, trust: Trust | None = None) -> list[Problem]:
    """Problems with the paths of a spec, with lines when a :class:`Resolved` is given.

    Nothing is loaded; data folders are looked at, not walked through.
    """
    resolved = spec if isinstance(spec, Resolved) else None
    inner = spec.spec if isinstance(spec, Resolved) else spec
    trusted = resolved.user.trust if resolved else trust
    found = missing(inner, trusted or Trust())
    return [placed(path, problem, resolved) for path, problem in found]


def missing(spec: Spec, trust: Trust) -> Iterator[Found]:
    """What a spec names and is not there, or cannot be used, by the path of its field."""
    yield from _data(spec)
    yield from _backbone(spec)
    yield from _plugins(spec, trust)
    yield from missing_image(spec, trust)


def missing_image(spec: Spec, trust: Trust) -> Iterator[Found]:
    """What stands against the container image that a spec names, if it names one."""
    container = container_of(spec.cluster.container)
    if container is None or container.image.startswith(STORE):
        return  # what is in a node's own store is seen only there
    place = "cluster.container"
    if isinstance(spec.cluster.container, Container):
        place += ".image"
    path, wanted = Path(container.image), "an image that you can read"
    try:
        facts = path.stat()
    except OSError as error:
        why = error.strerror or type(error).__name__
        action = "correct the path, or build or fetch the image"
        yield place, Problem(f"cannot be found ({why})", show(str(path), 200), wanted, action)
        return
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        action = "ask its owner for the right to read it"
        yield place, Problem("may not be read by you", show(str(path), 200), wanted, action)
        return
    problem = strangers(path, facts, trust, "an image")
    if problem is not None:
        yield place, problem


def placed(path: str, problem: Problem, resolved: Resolved | None) -> Problem:
    """A problem of a field, with the file and line where the field was written, if it was.

    Args:
        path: dotted path of a field, or of a place inside one (``cluster.sbatch.tmp``).
    """
    origin, place = None, path
    while resolved is not None and origin is None and place:
        origin, place = resolved.origins.get(place), place.rpartition(".")[0]
    file, line = (origin.option or origin.file, origin.line) if origin else (None, None)
    got = problem.got
    if problem.file:
        got = f"{problem.file}: {got}"
    return Problem(problem.what, got, problem.allowed, problem.action, path, file, line)


def _data(spec: Spec) -> Iterator[Found]:
    if spec.data.source is not None:
        return  # what the paths mean is the plug-in's affair
    if spec.adaptation is not None:
        problem = _data_set(Path(spec.adaptation.target), "a folder, or a manifest (.csv, .tsv)")
        if problem is not None:
            yield "adaptation.target", problem
    for name in ("train", "validation", "test"):
        path = getattr(spec.data, name)
        if isinstance(path, str):
            records = spec.data.features is not None
            problem = _records(Path(path)) if records else _data_set(Path(path))
            if problem is not None:
                yield f"data.{name}", problem
    if spec.data.root is not None:
        problem = _folder(Path(spec.data.root), "the folder that paths in a manifest start from")
        if problem is not None:
            yield "data.root", problem


_CLASSES = "a folder with one folder for each class, or a manifest (.csv, .tsv)"


def _data_set(path: Path, wanted: str = _CLASSES) -> Problem | None:
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return _folder(path, wanted)
    if os.access(path, os.R_OK):
        return None
    action = "ask its owner for the right to read it"
    return Problem("may not be read by you", show(str(path), 200), wanted, action)


def _records(path: Path) -> Problem | None:
    if path.suffix.lower() in (".csv", ".tsv"):
        return _data_set(path)
    wanted = "a folder of TFRecord files, one of them, or a pattern as DIR/train-*"
    if path.is_file():
        action = "ask its owner for the right to read it"
        may = os.access(path, os.R_OK)
        return None if may else Problem("may not be read by you", show(str(path)), wanted, action)
    is_pattern = not path.exists() and any(sign in path.name for sign in "*?")
    return _folder(path.parent if is_pattern else path, wanted)


def _folder(path: Path, wanted: str) -> Problem | None:
    try:
        if not path.exists():
            near = next(parent for parent in path.parents if parent.exists())
            action = f"correct the path (what exists of it is {near})"
            return Problem("does not exist", show(str(path), 200), wanted, action)
        if not path.is_dir():
            return Problem("is not a folder", show(str(path), 200), wanted, "name its folder")
    except OSError as error:
        why = error.strerror or type(error).__name__
        return Problem(f"cannot be looked at ({why})", show(str(path), 200), wanted, "correct it")
    if not os.access(path, os.R_OK | os.X_OK):
        action = "ask its owner for the right to read it"
        return Problem("may not be read by you", show(str(path), 200), wanted, action)
    return None


def _backbone(spec: Spec) -> Iterator[Found]:
    handle, weights = spec.backbone.handle, spec.backbone.weights
    if weights not in (None, "imagenet", "random") and not Path(weights).is_file():
        wanted = "imagenet, random, or a file of weights"
        yield "backbone.weights", Problem("is no file", show(weights, 200), wanted, "correct it")
    if handle.startswith("model:"):
        own = Path(handle.removeprefix("model:"))
        if not own.exists():
            wanted = "a .h5 or .keras file, or the folder of a model of Keras"
            action = "correct the path"
            yield "backbone.handle", Problem("does not exist", show(str(own), 200), wanted, action)
    elif handle.startswith("run:"):
        problem = _folder(Path(handle.removeprefix("run:")), "the directory of an earlier run")
        if problem is not None:
            yield "backbone.handle", problem
    else:
        yield from _saved_model("backbone.handle", handle)
    if spec.backbone.preprocessor is not None:
        yield from _saved_model("backbone.preprocessor", spec.backbone.preprocessor)


def _saved_model(field: str, handle: str) -> Iterator[Found]:
    path = module_path(handle)
    if path is None or not path.is_absolute():
        return  # an address, or a plug-in
    if archive_of(handle) is not None:
        problem = _archive(path)
        if problem is not None:
            yield field, problem
        return
    wanted = "the folder of a SavedModel (with saved_model.pb in it), or an archive of one"
    problem = _folder(path, wanted)
    if problem is None and not any(
        (path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")
    ):
        action = "name the folder that holds saved_model.pb"
        problem = Problem("is no SavedModel", show(str(path), 200), wanted, action)
    if problem is not None:
        yield field, problem


def _archive(path: Path) -> Problem | None:
    """What stands against unpacking an archive; its content is not looked at."""
    wanted = f"an archive of a SavedModel ({', '.join(ARCHIVES)})"
    if not path.is_file():
        return Problem("does not exist", show(str(path), 200), wanted, "correct the path")
    if not os.access(path, os.R_OK):
        action = "ask its owner for the right to read it"
        return Problem("may not be read by you", show(str(path), 200), wanted, action)
    return None


def _plugins(spec: Spec, trust: Trust) -> Iterator[Found]:
    for ref in spec.plugins:
        for problem in check_plugin(ref, trust):
            yield "plugins", problem
