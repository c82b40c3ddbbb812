"""Well-formed runs for tests, written as a run would write them; and children to act as others."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs import create as create_module
from harness.runs.attempts import begin_attempt, end_attempt
from harness.runs.heartbeat import write_heartbeat
from harness.runs.ids import new_run_id
from harness.runs.marks import mark_failed, mark_finished
from harness.runs.paths import RunPaths
from harness.runs.record import write_record
from harness.spec import load_spec

REPO = Path(__file__).resolve().parents[2]
NOBODY = 65534
SPEC = {
    "harness_spec": 1,
    "name": "textures",
    "backbone": {"handle": "hub:/models/m"},
    "data": {"train": "/data/train"},
    "training": {"phases": [{"name": "head", "epochs": 5, "learning_rate": 0.001}]},
}


@pytest.fixture(autouse=True)
def bare_user(tmp_path, monkeypatch):
    """No user config, no variable; runs go to tmp_path/runs."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.delenv("HARNESS_RUNS_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    ids = iter(f"20260101-{number:06d}-aaaa" for number in range(1000))
    monkeypatch.setattr(create_module, "new_run_id", lambda: next(ids))


def resolved(**overrides):
    return load_spec(SPEC, overrides={k.replace("__", "."): v for k, v in overrides.items()})


def stop(paths: RunPaths) -> None:
    end_attempt(paths, begin_attempt(paths, {}), "stopped", 0, 10)


def fail(paths: RunPaths) -> None:
    end_attempt(paths, begin_attempt(paths, {}), "failed", 0, 10)
    mark_failed(paths, "loss is NaN")


def make_run(root: Path, name: str = "textures", run_id: str | None = None, **record: Any):
    """A run that has not begun."""
    run_id = run_id or new_run_id()
    paths = RunPaths.create(root / name / run_id, record.pop("access", "private"))
    created = "2026-11-22T01:33:55.000Z"
    write_record(paths, {"run_id": run_id, "name": name, "created": created, **record})
    return paths


def finish(paths: RunPaths, step: int = 100) -> None:
    """One attempt that went through."""
    attempt = begin_attempt(paths, {})
    write_heartbeat(paths, attempt=attempt, step=step, total_steps=step)
    end_attempt(paths, attempt, "finished", 0, step)
    mark_finished(paths, attempt=attempt, step=step, total_steps=step)


def as_nobody(call: Callable[[], Any]) -> str:
    """What ``call`` returns, or ``<ErrorClass>: <text>``, in a forked child without root's rights.

    A fork and no new program: the interpreter may lie where only root can look.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            try:
                text = str(call())
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
            os.write(writing, text.encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return text


def names_in(folder: Path) -> list[str]:
    """Sorted names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def python(code: str, *args: Any, stdout: int = subprocess.PIPE) -> subprocess.Popen:
    """A started child that runs ``code`` with ``args`` in sys.argv."""
    environment = dict(os.environ, PYTHONPATH=str(REPO), PYTHONDONTWRITEBYTECODE="1")
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd="/",
    )


def output_of(child: subprocess.Popen) -> str:
    """What the child printed; it must have left with 0."""
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    return out


HOLD_LOCK = """
    import sys, time
    from harness.runs.lock import RunLock
    from harness.runs.paths import RunPaths

    with RunLock(RunPaths(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
"""


def holding_child(paths: RunPaths) -> subprocess.Popen:
    """A child that holds the run's lock by the time this returns."""
    child = python(HOLD_LOCK, paths.root)
    assert child.stdout is not None
    line = child.stdout.readline()
    if line != "held\n":
        raise AssertionError(child.communicate(timeout=10))
    return child


@pytest.fixture
def open_folder():
    """A folder that other users can reach, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
