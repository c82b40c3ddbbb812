"""Whether a folder may become a run, or is one of ours that can go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.runs.files import TEMPORARY
from harness.runs.paths import RunPaths
from harness.runs.storage import check_writable, owner_name

if TYPE_CHECKING:
    from harness.spec import Resolved

# What a killed creation can leave behind; anything else in a folder is somebody's work.
_BEGUN = ("spec.yaml", "environment.lock", "git.diff", ".lock")
_BEGUN_FOLDERS = ("plugins", "checkpoints", "tensorboard", "slurm")


def refuse_own_spec(resolved: Resolved, paths: RunPaths) -> None:
    """The run's ``spec.yaml`` and ``plugins/`` would be written over the user's own."""
    if resolved.file is not None and paths.root in resolved.file.parents:
        raise UsageError(
            f"{paths.root}: holds the spec itself, and the run's files would be written over yours",
            got=str(resolved.file),
            action="name another --run-dir, as a new folder in it",
        )


def refuse_foreign(paths: RunPaths) -> None:
    """Only a missing or empty folder, or what a killed creation left, becomes a run."""
    if not paths.root.exists():
        return
    if not paths.root.is_dir():
        raise UsageError(f"{paths.root}: is no folder", action="name another --run-dir")
    for path in sorted(paths.root.iterdir()):
        begun = path.name in _BEGUN or path.name.endswith(TEMPORARY)
        empty = path.name in _BEGUN_FOLDERS and path.is_dir()
        if empty and path.name != "plugins":
            empty = not any(path.iterdir())
        if not begun and not empty:
            raise UsageError(
                f"{paths.root}: is not empty and holds no run (there is no run.json)",
                got=path.name,
                action="name another --run-dir",
            )


def refuse_other_owner(paths: RunPaths) -> None:
    """Nobody's pickle but one's own is ever loaded, so a colleague's run is never continued."""
    # Not os.geteuid(): under root squash or in a container our files have another owner.
    me = check_writable(paths.root).st_uid
    owner = paths.record.stat().st_uid
    if owner != me:
        raise UsageError(
            f"{paths.root}: is somebody else's run",
            got=f"owner {owner_name(owner)}",
            action=f"`harness fork {paths.root}` goes on from its weights in a run of your own",
        )
