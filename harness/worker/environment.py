"""The process' surroundings, set before TensorFlow is imported: they are read only then."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from harness.errors import EnvironmentNotAble, StorageError
from harness.model.remote import KERAS, MODULES, is_offline
from harness.runs.files import file_mode, make_dir


def cache_root(environment: MutableMapping[str, str], say: Callable[[str], None]) -> Path:
    """The folder for what may be shared between runs and made again.

    ``HARNESS_CACHE``, else ``harness`` in ``XDG_CACHE_HOME`` or ``~/.cache``; where that cannot be
    written (a read-only home is ordinary on compute nodes) a folder of the user's own in the
    temporary directory, and the user is told.

    Raises:
        StorageError: the folder that ``HARNESS_CACHE`` names cannot be made.
    """
    asked = environment.get("HARNESS_CACHE")
    if asked:
        return _usable(Path(asked).expanduser())
    base = environment.get("XDG_CACHE_HOME")
    try:
        return _usable(Path(base or Path.home() / ".cache") / "harness")
    except (StorageError, RuntimeError) as error:  # RuntimeError: no home at all
        folder = Path(tempfile.gettempdir()) / f"harness-{os.getuid()}"
        say(f"the cache is kept in {folder}, as the usual place cannot be used ({error})")
        _usable(folder)
        if folder.stat().st_uid != os.getuid():
            raise StorageError(
                "the cache folder in the temporary directory is somebody else's",
                got=str(folder),
                action="set HARNESS_CACHE to a folder of your own",
            ) from error
        return folder


def _usable(folder: Path) -> Path:
    if not folder.is_dir():  # one that is there is as open to others as its owner made it
        make_dir(folder, "private")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"{folder}: cannot be written", action="set HARNESS_CACHE to another")
    return folder


def prepare(environment: MutableMapping[str, str], say: Callable[[str], None]) -> Path:
    """Sets what TensorFlow, Keras and Hub read at import; returns the cache root.

    Variables that the user has set stay as they are.

    Raises:
        EnvironmentNotAble: TensorFlow is not installed.
    """
    missing = [
        name for name in ("tensorflow", "tf_keras", "tensorflow_hub") if not _installed(name)
    ]
    if missing:
        raise EnvironmentNotAble(
            "training needs TensorFlow, and it is not installed",
            got=f"no {', '.join(missing)}",
            allowed="the [train] extra",
            action="pip install 'harness[train]'",
        )
    root = cache_root(environment, say)
    shelves = _shelves(environment, root)
    for name in ("TFHUB_CACHE_DIR", "KERAS_HOME", "XDG_CACHE_HOME"):
        if environment.get(name) == "":  # as where it is not set, and no folder of this name
            del environment[name]
    wanted = {
        # tensorflow_hub works with Keras 2 only.
        "TF_USE_LEGACY_KERAS": "1",
        # 2: errors only.  The rest is chatter that hides our own lines.
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TFHUB_CACHE_DIR": str(shelves / MODULES),
        "KERAS_HOME": str(shelves / KERAS),
        "XDG_CACHE_HOME": str(root),
    }
    for name, value in wanted.items():
        environment.setdefault(name, value)
    # Else whoever asks again, in this process or one that it starts, finds the line above.
    environment["HARNESS_CACHE"] = str(root.absolute())
    return root


def _shelves(environment: MutableMapping[str, str], root: Path) -> Path:
    """The folder in which fetched backbones are.

    On a compute node the usual place may be one that can only be read: nothing is written to it
    there, and what was staged from a login node lies in it.
    """
    if environment.get("HARNESS_CACHE") or not is_offline(environment):
        return root
    try:
        usual = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"
    except RuntimeError:  # no home at all
        return root
    there = any((usual / name).is_dir() for name in (MODULES, KERAS))
    return usual if there else root


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def import_tensorflow(log: Path | None) -> None:
    """Imports TensorFlow, tf_keras and Hub; what their C++ side prints meanwhile goes to ``log``.

    That is chatter about CUDA and CPU instructions, printed before any log level takes effect.
    Python's own ``sys.stderr`` still reaches the user.  A ``log`` that cannot be written (a
    colleague's run) leaves everything on standard error, and so does None: a rank that writes
    nothing of the run has a log of its own.
    """
    if "tensorflow" in sys.modules:
        return
    with _native_stderr_to(log):
        import tensorflow as tf
        import tensorflow_hub  # noqa: F401 - imported here for its own chatter
        import tf_keras  # noqa: F401

        tf.config.list_physical_devices()  # the first look at the devices is chatty too


@contextmanager
def _native_stderr_to(log: Path | None) -> Iterator[None]:
    if log is None:
        yield
        return
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.fchmod(target, file_mode(log.parent))
    except OSError:
        yield
        return
    held, python_stderr = os.dup(2), sys.stderr
    # Not closed: the loggers made meanwhile write to it as long as the process lives.
    stream = os.fdopen(os.dup(held), "w", encoding="utf-8", errors="replace", buffering=1)
    try:
        sys.stderr.flush()
        sys.stderr = stream
        os.dup2(target, 2)
        yield
    finally:
        os.dup2(held, 2)
        sys.stderr = python_stderr
        os.close(held)
        os.close(target)
