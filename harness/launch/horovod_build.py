"""Builds Horovod for the TensorFlow in use: fetches the release, changes it, compiles, keeps.

The single source of that build: the verb, ``make horovod`` and the container recipes all come
here.  What is built is a wheel whose version says for what (see :mod:`.horovod_options`), so a
wheel of the right name is the right wheel and is built only once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import EnvironmentNotAble
from harness.launch.horovod_install import is_there, run_pip
from harness.launch.horovod_machine import Machine, look, nccl_library
from harness.launch.horovod_options import (
    HOROVOD,
    SDIST_SHA256,
    Options,
    build_variables,
    choose_options,
    version_label,
)
from harness.launch.horovod_patch import apply_patches
from harness.launch.logged import Log
from harness.runs.files import make_dir
from harness.runs.storage import storage_error

Say = Callable[[str], None]

# What the build needs besides pip, as packages or, for cmake, as a program.  setuptools 81 has no
# pkg_resources any more, with which Horovod's setup.py makes sure of its requirements.
_TOOLS = {
    "cmake": "cmake>=3.18,<5",
    "setuptools": "setuptools>=65,<81",
    "wheel": "wheel",
    "packaging": "packaging",
    "psutil": "psutil",
    "pyyaml": "pyyaml",
    "cloudpickle": "cloudpickle",
}
_GB_A_JOB = 1.5
"""The compiler takes up to 1.3 GB for ``mpi_ops.cc``."""


@dataclass(frozen=True)
class Asked:
    """What the caller wants; see ``harness horovod --help``."""

    parts: tuple[str, ...] = ()
    architectures: tuple[int, ...] = ()
    cuda_home: Path | None = None
    nccl_home: Path | None = None
    sdist: Path | None = None
    wheel_dir: Path | None = None
    rebuild: bool = False
    jobs: int | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be built on this machine, under which version, and kept in which folder."""

    machine: Machine
    options: Options
    version: str
    wheels: Path

    @property
    def wheel(self) -> Path | None:
        """The wheel, if it has been built."""
        return next(iter(sorted(self.wheels.glob(f"horovod-{self.version}-*.whl"))), None)

    @property
    def log(self) -> Path:
        """What the build printed."""
        return self.wheels / f"horovod-{self.version}.log"


def make_plan(asked: Asked, environment: Mapping[str, str], cache: Path) -> Plan:
    """Looks around and decides what is built.

    Raises:
        UsageError, EnvironmentNotAble: it cannot be; see :func:`.choose_options`.
        StorageError: the folder for wheels cannot be made.
    """
    machine = look(environment, asked.cuda_home, asked.nccl_home)
    options = choose_options(machine, asked.parts, asked.architectures)
    version = version_label(machine, options, environment)
    wheels = asked.wheel_dir or make_dir(cache / "horovod", "private")
    try:
        wheels.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, wheels) from error
    return Plan(machine, options, version, wheels)


def make_wheel(
    plan: Plan, asked: Asked, environment: Mapping[str, str], say: Say
) -> tuple[Path, bool]:
    """The wheel of a plan, and whether it was built now (instead of found).

    Raises:
        EnvironmentNotAble: a step of the build failed; names the log.
        StorageError: no space, or not writable.
    """
    with _alone(plan.wheels, plan.version, say):
        if plan.wheel is not None and not asked.rebuild:
            return plan.wheel, False
        folder = Path(tempfile.mkdtemp(prefix="harness-horovod-"))
        try:
            return _build(plan, asked, environment, folder, say), True
        except OSError as error:
            raise storage_error(error, folder) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _build(
    plan: Plan, asked: Asked, environment: Mapping[str, str], folder: Path, say: Say
) -> Path:
    jobs = asked.jobs or default_jobs()
    tools, links, out, scratch = (folder / name for name in ("tools", "links", "wheels", "tmp"))
    for made in (tools, links, out, scratch):
        made.mkdir()
    library = nccl_library(plan.options.nccl) if plan.options.nccl is not None else None
    if library is not None:
        # Its package has it only under the name with a version, which no linker looks for.
        (links / "libnccl.so").symlink_to(library)
    variables = build_variables(
        plan.machine,
        plan.options,
        environment,
        label=plan.version,
        tools=tools,
        links=links,
        jobs=jobs,
    )
    # pip and compilers that are killed leave their temporary files behind.
    variables["TMPDIR"] = str(scratch)
    with Log(plan.log) as log:
        _get_tools(tools, variables, log)
        sdist = asked.sdist or _fetch(folder, variables, log)
        source = _unpack(sdist, folder)
        for line in apply_patches(source):
            log.say(f"changed {line}")
        say(f"compiling Horovod {plan.version}, {jobs} files at a time; log: {plan.log}")
        begun = time.monotonic()
        words = ("-v", "--no-deps", "--no-build-isolation", "--no-cache-dir")
        run_pip(log, variables, "wheel", *words, "--wheel-dir", str(out), str(source),
                what="Horovod did not compile")  # fmt: skip
        say(f"compiled in {time.monotonic() - begun:.0f} s")
    (built,) = out.glob("*.whl")
    return _keep(built, plan.wheels)


def default_jobs() -> int:
    """Compilers at a time: as many as there are cores for this process and memory on this node."""
    cores = len(os.sched_getaffinity(0))
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return max(1, min(cores, int(memory_gb / _GB_A_JOB)))


def _get_tools(tools: Path, variables: Mapping[str, str], log: Log) -> None:
    """What the build needs and the environment does not have, into a folder of its own."""
    done = log.run([sys.executable, "-m", "pip", "--version"], variables)
    if done:
        raise EnvironmentNotAble(
            "Horovod is built with pip, and this Python has none",
            got=sys.executable,
            action=f"{sys.executable} -m ensurepip",
        )
    missing = [wanted for name, wanted in _TOOLS.items() if not is_there(name)]
    if shutil.which("cmake", path=variables["PATH"]):
        missing = [wanted for wanted in missing if not wanted.startswith("cmake")]
    if missing:
        run_pip(log, variables, "install", "--target", str(tools), *missing,
             what="the tools that Horovod is built with could not be fetched",
             action="install them first where there is no index: cmake, setuptools<81, wheel, "
             "packaging, psutil, pyyaml, cloudpickle")  # fmt: skip


def _fetch(folder: Path, variables: Mapping[str, str], log: Log) -> Path:
    # pip refuses a package whose own version is not that of its file name.
    variables = {k: v for k, v in variables.items() if k != "HOROVOD_LOCAL_VERSION"}
    run_pip(log, variables, "download", "--no-binary", ":all:", "--no-deps", "--no-build-isolation",
         "--dest", str(folder), f"horovod=={HOROVOD}",
         what=f"the source package of Horovod {HOROVOD} could not be fetched",
         action="on a machine that reaches a package index: pip download --no-deps --no-binary "
         f":all: horovod=={HOROVOD}; then give that file with --sdist")  # fmt: skip
    return next(folder.glob("horovod-*.tar.gz"))


def _unpack(sdist: Path, folder: Path) -> Path:
    """The sources, from a file that is byte for byte the released one."""
    try:
        digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    except OSError as error:
        raise EnvironmentNotAble(
            "the source package of Horovod cannot be read",
            got=str(error),
            action="give the file horovod-0.28.1.tar.gz with --sdist",
        ) from error
    if digest != SDIST_SHA256:
        raise EnvironmentNotAble(
            f"{sdist}: is not the source package of Horovod {HOROVOD}",
            got=f"sha256 {digest}",
            allowed=f"sha256 {SDIST_SHA256}",
            action="fetch it anew from a package index that you trust",
        )
    # Old patch releases of Python know no filter; the digest says that the file is harmless.
    filtered: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **filtered)  # noqa: S202
    return folder / f"horovod-{HOROVOD}"


def _keep(built: Path, wheels: Path) -> Path:
    """Puts the wheel where it is looked for, whole or not at all."""
    temporary = wheels / f".{built.name}.{os.getpid()}"
    try:
        shutil.copyfile(built, temporary)
        return temporary.replace(wheels / built.name)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(wheels: Path, version: str, say: Say) -> Iterator[None]:
    """Holds the lock of one build; a second build of the same waits and then finds the wheel."""
    import fcntl

    with (wheels / f".horovod-{version}.lock").open("w") as file:
        try:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                say(f"another process is building Horovod {version}; waiting for it")
                fcntl.lockf(file, fcntl.LOCK_EX)
        except OSError:
            # No locks on this file system: at worst it is built twice, and one wheel replaces
            # the other.
            say(f"{wheels}: has no locks; building all the same")
        yield
