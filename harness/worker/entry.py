"""The process of one rank of a submitted run: ``python -u -c START FOLDER PICKLE``.

Stands in the place of submitit's own ``submitit.core._submit``.  That one installs handlers which
save on one rank only and requeue the job behind the back of the others; here the run listens to
the signals itself, and the batch script requeues.

The pickle is a program.  It is loaded only if it is our own file, which nobody else may write;
what is checked and what is loaded are one open file.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from pathlib import Path
from typing import Any

from harness.errors import ExitCode, HarnessError, StorageError
from harness.runs.storage import owner_name, storage_error

SAFE_PATH = "import sys; sys.path[:1] = [p for p in sys.path[:1] if p]; "
"""Python finds modules in the present folder first, which for a job is wherever its user was: a
``dataclasses.py`` there would be taken for Python's own.  (``-P`` does it from Python 3.11 on.)"""
START = SAFE_PATH + "from harness.worker.entry import run; run()"
PREPARED_PICKLE = "prepared.pkl"
"""The call of a submission whose job id was not known to those who wrote it."""
_SHARED = 0o022  # writable by the group or by all
_WAIT_S = 60.0
"""How long the pickle may be late: it gets its name once the scheduler has told the job's id, and
network file systems take a while to show it to other nodes."""


def main(argv: list[str] | None = None) -> int:
    """Carries out what was submitted; the process's exit code."""
    # One that comes too early is sent again until it is heard, see protocol.sh; and one that
    # comes too late must not change the code of an attempt that has ended well.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    folder, name = sys.argv[1:] if argv is None else argv
    try:
        # A local job learns its id only from its environment.
        name = name.replace("%j", os.environ.get("SUBMITIT_LOCAL_JOB_ID", "%j"))
        submission = load_own(wait_for(Path(folder) / name))
        code = int(submission.result())
    except HarnessError as error:
        for problem in error.problems:
            print(f"harness: {problem}", file=sys.stderr)
        return int(error.exit_code)
    _keep_result(Path(folder), code)
    return code


def wait_for(path: Path, wait_s: float = _WAIT_S) -> Path:
    """Waits until the file is there, at most ``wait_s``; gives its path either way.

    A call that sbatch was sent with, and whose job id was never heard, lies under another name.
    """
    end = time.monotonic() + wait_s
    other = path.with_name(PREPARED_PICKLE)
    while not path.exists() and time.monotonic() < end:
        if other.exists():
            return other
        time.sleep(0.1)
    return path


def load_own(path: Path) -> Any:
    """Loads a pickle that is ours alone.

    Raises:
        StorageError: it is not there, somebody else's, or others may write it.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise storage_error(error, path) from error
    with stream:
        facts = os.fstat(stream.fileno())
        if facts.st_uid != os.geteuid():
            raise _foreign(path, f"a file of {owner_name(facts.st_uid)}")
        if facts.st_mode & _SHARED:
            raise _foreign(path, "a file that others may write to")
        return pickle.load(stream)  # noqa: S301 - our own file, see above


def _foreign(path: Path, got: str) -> StorageError:
    return StorageError(
        f"{path}: is a program, and it is not yours alone",
        got=got,
        allowed="what `harness submit` of the same user has written",
        action="`harness fork` goes on from the weights of a colleague's run",
    )


def _keep_result(folder: Path, code: int) -> None:
    """Leaves the result where submitit's ``Job.result()`` looks for it."""
    from submitit.core.job_environment import JobEnvironment
    from submitit.core.utils import cloudpickle_dump

    os.environ["SUBMITIT_FOLDER"] = str(folder)
    result = JobEnvironment().paths.result_pickle
    temporary = result.with_name(f".{result.name}.{os.getpid()}.tmp")
    cloudpickle_dump(("success", code), temporary)
    temporary.replace(result)


def run() -> None:
    """Carries out what was submitted and ends the process."""
    sys.argv[0] = __file__
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # What is left is TensorFlow's own shutdown, in which a late signal would change the code.
    os._exit(code if code in [0, 144, *map(int, ExitCode)] else 1)
