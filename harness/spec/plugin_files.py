"""Loads plug-ins: Python files named in the spec, or installed entry points.

A plug-in is a program.  A file that somebody else owns or may write to is refused before it is
run, unless the user config trusts it; what was checked is what is run (the same bytes).
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.metadata
import importlib.util
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from harness.errors import EnvironmentNotAble, HarnessError, Problem, SpecError
from harness.plugins import registry
from harness.spec.config import Trust
from harness.spec.trust import strangers

GROUP = "harness.plugins"
MODULE_PREFIX = "harness_plugin_"
"""Group of entry points under which installed packages offer plug-ins."""
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class LoadedPlugin:
    """A plug-in that was run: its file and the SHA-256 of what was in it."""

    path: Path
    sha256: str


def is_file_ref(ref: str) -> bool:
    """Whether a plug-in is named by its file, not as an entry point."""
    return ref.endswith(".py") or "/" in ref


def load_plugins(refs: Sequence[str], trust: Trust | None = None) -> list[LoadedPlugin]:
    """Runs the plug-ins in order, so that they register what they offer.

    What the files of an earlier call have registered is forgotten: the next run in the same
    process has its own copies of the same files.

    Args:
        refs: paths of Python files, or names of entry points of the group ``harness.plugins``.
        trust: whose files may be run, beside one's own and root's.

    Raises:
        SpecError: a plug-in does not exist, is not trusted or fails; all problems at once,
            as far as they are seen before the first is run.
        EnvironmentNotAble: a plug-in needs a package that is not installed.
    """
    trust = trust or Trust()
    problems = [problem for ref in refs for problem in check_plugin(ref, trust)]
    if problems:
        raise SpecError(problems)
    registry.forget(MODULE_PREFIX)
    return [_load_file(ref, trust) if is_file_ref(ref) else _load_entry(ref) for ref in refs]


def check_plugin(ref: str, trust: Trust) -> list[Problem]:
    """What stands against running a plug-in; nothing of it is run."""
    if not is_file_ref(ref):
        if ref in _entry_points():
            return []
        known = ", ".join(sorted(_entry_points())) or "none is installed"
        action = "install the package that offers it, or give the path of a .py file"
        return [Problem("there is no such entry point", repr(ref[:100]), known, action)]
    try:
        read_trusted(Path(ref), trust)
    except SpecError as error:
        return list(error.problems)
    return []


def read_trusted(path: Path, trust: Trust) -> tuple[bytes, str]:
    """The bytes of a file and their SHA-256, read once it is seen whose file it is.

    Raises:
        SpecError: it cannot be read, is no regular file, or is not trusted.
    """
    try:
        # Without waiting, since a named pipe would wait for a writer.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags), "rb") as stream:
            facts = os.fstat(stream.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise SpecError("a plug-in must be a file", got=str(path), action="name a .py file")
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        action = "check the path and its permissions"
        what = "there is no such file" if isinstance(error, FileNotFoundError) else why
        raise SpecError(
            f"a plug-in cannot be read: {what}", got=str(path), action=action
        ) from error
    if len(content) > MAX_BYTES:
        raise SpecError("a plug-in is larger than 4 MiB", got=str(path), action="check the path")
    digest = hashlib.sha256(content).hexdigest()
    if digest not in trust.digests:
        _refuse_strangers(path, facts, trust)
    return content, digest


def _refuse_strangers(path: Path, facts: os.stat_result, trust: Trust) -> None:
    problem = strangers(path, facts, trust, "a plug-in")
    if problem is not None:
        raise SpecError(problem)


class _Bytes(importlib.abc.InspectLoader):
    """Runs a module from bytes that were read and checked before."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content = path, content

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._content)

    def get_code(self, fullname: str) -> CodeType:
        # The file's path goes into the code, so that tracebacks show its lines.
        return compile(self._content, str(self._path), "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return False


def _load_file(ref: str, trust: Trust) -> LoadedPlugin:
    path = Path(ref).absolute()
    content, digest = read_trusted(path, trust)
    mark = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    name = f"{MODULE_PREFIX}{mark}_{path.stem}"
    loader = _Bytes(path, content)
    module_spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert module_spec is not None, "a loader was given"
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, HarnessError | KeyboardInterrupt):
            raise
        raise _failed(ref, error, path) from error
    return LoadedPlugin(path, digest)


def _failed(ref: str, error: BaseException, path: Path | None = None) -> HarnessError:
    got = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, ModuleNotFoundError):
        missing = error.name or "a package"
        action = f"install {missing} in this environment"
        return EnvironmentNotAble(
            f"the plug-in {ref} needs a missing package", got=got, action=action
        )
    line = _last_line(error, path)
    return SpecError(
        Problem("the plug-in fails when it is loaded", got, None, "correct it", file=ref, line=line)
    )


def _last_line(error: BaseException, path: Path | None) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


def _load_entry(ref: str) -> LoadedPlugin:
    entry = _entry_points()[ref]
    try:
        found = entry.load()
    except Exception as error:
        if isinstance(error, HarnessError):
            raise
        raise _failed(ref, error) from error
    module = found if isinstance(found, ModuleType) else sys.modules[found.__module__]
    if module.__file__ is None:
        raise SpecError("the entry point leads to no file", got=ref, action="name a module")
    path = Path(module.__file__)
    return LoadedPlugin(path, hashlib.sha256(path.read_bytes()).hexdigest())


def digests(loaded: Iterable[LoadedPlugin]) -> dict[str, str]:
    """SHA-256 by path, as the run record keeps it."""
    return {str(plugin.path): plugin.sha256 for plugin in loaded}
