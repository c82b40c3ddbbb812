"""Makes folders once: each under a temporary name, renamed when it is complete."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

Part = tuple[tuple[str, ...], Callable[[Path, Path], None]]
"""Names of folders, and what makes them out of the downloads in a folder that it is given.  Several
folders made at once are renamed one by one, the first last: it stands for all of them."""


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Two preparations of the same folder wait for one another; a dead one holds nothing."""
    with (out / ".lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def make_missing(out: Path, downloads: Path, parts: Sequence[Part], recipe: str, job: str) -> bool:
    """Makes what is missing under ``out``; True when there was anything to make.

    Args:
        recipe: of what ``parts`` make; what another one has made is remade.
        job: in whose name it is said.
    """
    out.mkdir(parents=True, exist_ok=True)
    stamp = out / ".recipe"
    with only_one(out):
        for left in out.glob(".making-*"):
            shutil.rmtree(left)
        if not stamp.exists() or stamp.read_text() != recipe:
            for top in {Path(name).parts[0] for names, _ in parts for name in names}:
                if (out / top).exists():
                    shutil.rmtree(out / top)
            stamp.write_text(recipe)
        missing = [part for part in parts if not (out / part[0][0]).exists()]
        for folders, make in missing:
            print(f"{job}: making {', '.join(folders)} under {out}", flush=True)
            making = Path(tempfile.mkdtemp(prefix=".making-", dir=out))
            make(downloads, making)
            _put_in_place(making, out, folders)
    return bool(missing)


def _put_in_place(making: Path, out: Path, folders: tuple[str, ...]) -> None:
    for folder in reversed(folders):
        (out / folder).parent.mkdir(exist_ok=True)
        if (out / folder).exists():  # from an attempt that ended between two renames
            shutil.rmtree(out / folder)
        (making / folder if len(folders) > 1 else making).rename(out / folder)
        (out / folder).chmod(0o755)
    if len(folders) > 1:
        making.rmdir()
