"""What Horovod is installed here, and whether it fits the TensorFlow in use; imports neither.

Horovod is compiled against one TensorFlow and with a choice of controllers.  Asking Horovod itself
means importing TensorFlow, so its compiled library is read instead: every class with virtual
functions that was compiled in leaves its name there (the type information of C++), and stripping
does not remove it.  That is as true of a Horovod that somebody else has built.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import struct
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_CLASSES = {
    "gloo": "GlooController",
    "mpi": "MPIController",
    "nccl": "NCCLAllreduce",
    "cuda": "GPUAllreduce",
}
"""What is built in, by a class in the namespace ``horovod::common`` that only then is compiled."""

# Who calls the module tensorflow; the first that is installed is taken.
_DISTRIBUTIONS = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-gpu",
    "tf-nightly",
    "intel-tensorflow",
)

IDLE_TIME = "HOROVOD_IDLE_TIME"
"""Environment variable of a Horovod that :mod:`harness.launch.horovod_wake` has changed, in ms."""


@dataclass(frozen=True)
class HorovodFacts:
    """The installed Horovod.

    ``tensorflow`` is the version it was compiled against and ``tensorflow_here`` the one in use;
    either is None where nothing tells.  ``gloo`` and ``mpi`` are its controllers, ``nccl`` and
    ``cuda`` what it reduces with on GPUs.  ``wakes``: its thread can sleep until there is something
    to sum, which a Horovod as released cannot.  ``trouble`` says in words why it cannot work here.
    """

    version: str
    tensorflow: str | None
    tensorflow_here: str | None
    gloo: bool
    mpi: bool
    nccl: bool
    cuda: bool
    wakes: bool = False
    trouble: str | None = None

    @property
    def usable(self) -> bool:
        """Whether it can be imported, as far as files tell."""
        return self.trouble is None

    @property
    def controllers(self) -> tuple[str, ...]:
        """By which the ranks can find one another: ``gloo``, ``mpi``."""
        return tuple(name for name in ("gloo", "mpi") if getattr(self, name))

    @property
    def built_with(self) -> tuple[str, ...]:
        """Everything of ``gloo``, ``mpi``, ``nccl`` and ``cuda`` that is compiled in."""
        return tuple(name for name in _CLASSES if getattr(self, name))


def horovod_facts() -> HorovodFacts | None:
    """The installed Horovod, or None where there is none.  A few milliseconds, nothing kept."""
    spec = importlib.util.find_spec("horovod")
    # A folder of that name on the path, with no __init__, is no Horovod.
    if spec is None or spec.origin is None:
        return None
    return facts_of_folder(Path(spec.origin).parent, tensorflow_version())


def facts_of_folder(package: Path, tensorflow_here: str | None) -> HorovodFacts:
    """The facts of the Horovod whose package is in this folder; see :class:`HorovodFacts`."""
    library, trouble = _library(package)
    built_for = _built_for(package)
    found = dict.fromkeys([*_CLASSES, "wakes"], False)
    if library is not None:
        try:
            found = compiled_in(library)
        except (OSError, ValueError) as error:
            trouble = f"its compiled library cannot be read ({error})"
    if trouble is None and not (found["gloo"] or found["mpi"]):
        trouble = "it was built with neither Gloo nor MPI"
    if trouble is None and _minor(built_for) != _minor(tensorflow_here or built_for):
        trouble = f"it was built for TensorFlow {built_for}, and {tensorflow_here} is installed"
    return HorovodFacts(_version(package), built_for, tensorflow_here, **found, trouble=trouble)


def horovod_hint(built_with: Sequence[str] = ()) -> str:
    """The command that installs Horovod into the Python that runs this.

    Args:
        built_with: what it has to be built with, of ``gloo``, ``mpi`` and ``nccl``; empty leaves
            the choice to the command.
    """
    words = [sys.executable or "python", "-m", "harness", "horovod"]
    if built_with:
        words += ["--with", ",".join(built_with)]
    return shlex.join(words)


def tensorflow_version() -> str | None:
    """Version of the installed TensorFlow, without importing it; None if nothing tells."""
    loaded = getattr(sys.modules.get("tensorflow"), "__version__", None)
    if loaded is not None:
        return str(loaded)
    for name in _DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def compiled_in(library: Path) -> dict[str, bool]:
    """Which of gloo, mpi, nccl, cuda, and ``wakes``, a compiled library holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no library, or one that was cut off.
    """
    text = _constants(library)
    # How the compiler writes horovod::common::NAME: each part with its length before it.
    names = {key: f"N7horovod6common{len(name)}{name}E" for key, name in _CLASSES.items()}
    return {key: name.encode() in text for key, name in {**names, "wakes": IDLE_TIME}.items()}


def _constants(library: Path) -> bytes:
    """The section ``.rodata`` of an ELF file of 64 bit, or all of another ELF file.

    See elf(5).  With debug information the section is a thousandth of the whole.
    """
    with library.open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            raise ValueError("no ELF file")
        if head[4:6] != b"\x02\x01":  # another word size or byte order
            return head + file.read()
        try:
            (table,) = struct.unpack_from("<Q", head, 40)
            size, count, names = struct.unpack_from("<HHH", head, 58)
            file.seek(table)
            rows = file.read(size * count)
            sections = [struct.unpack_from("<IIQQQQ", rows, size * at) for at in range(count)]
            file.seek(sections[names][4])
            words = file.read(sections[names][5])
            wanted = next(row for row in sections if words[row[0] :].startswith(b".rodata\0"))
        except (struct.error, IndexError, StopIteration):
            raise ValueError("an ELF file that was cut off or has no constants") from None
        file.seek(wanted[4])
        return file.read(wanted[5])


def _library(package: Path) -> tuple[Path | None, str | None]:
    """The compiled operations for TensorFlow and this Python, or why there are none."""
    folder = package / "tensorflow"
    file = folder / f"mpi_lib{sysconfig.get_config_var('EXT_SUFFIX') or '.so'}"
    if file.is_file():
        return file, None
    others = sorted(other.name for other in folder.glob("mpi_lib*.so"))
    if others:
        return None, f"it was built for another Python ({', '.join(others)})"
    return None, "it was built without TensorFlow"


def _built_for(package: Path) -> str | None:
    try:
        return str(json.loads((package / "metadata.json").read_bytes())["tensorflow"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _version(package: Path) -> str:
    try:
        return metadata.version("horovod")
    except metadata.PackageNotFoundError:  # a folder on PYTHONPATH that was never installed
        found = re.search(r"__version__ = '(.+)'", (package / "__init__.py").read_text())
        return found[1] if found else "unknown"


def _minor(version: str | None) -> list[str]:
    """``2.21`` of ``2.21.0``: TensorFlow's interface for operations may change with each."""
    return (version or "").split(".")[:2]
