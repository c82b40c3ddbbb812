"""Fetched backbones, for whoever puts a run or a verb together.  Free of TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.errors import StorageError
from harness.model.fetch import Fetched, fetch
from harness.model.kept import note_use
from harness.model.remote import Remote, Shelves, is_offline, missing, remotes_of
from harness.runs.earlier import first_source
from harness.spec import Spec
from harness.spec.models_model import Backbone
from harness.worker.environment import cache_root


def shelves_of(environment: Mapping[str, str]) -> Shelves:
    """Where the ranks of a job, which has these variables, look for fetched backbones.

    Raises:
        StorageError: in a temporary folder of this machine, which a job would not see.
    """
    both = ("TFHUB_CACHE_DIR", "KERAS_HOME")
    if all(environment.get(name) for name in both):
        return Shelves.of(environment)
    fallen_back: list[str] = []
    root = cache_root(dict(environment), fallen_back.append)
    if fallen_back:
        raise StorageError(
            "there is no cache that jobs see",
            got=fallen_back[0],
            allowed="a folder that you can write, on storage that all nodes share",
            action="export HARNESS_CACHE=FOLDER",
        )
    return Shelves.of(environment, root)


def bring(
    remote: Remote,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    *,
    unpacks: bool = False,
) -> Fetched:
    """Has a backbone in the cache, fetched or unpacked if need be, and notes its use.

    Args:
        unpacks: whether archives on these disks are unpacked with ``HARNESS_OFFLINE`` too, which
            the ranks of a job have: they may be many, and their cache read-only.

    Raises:
        DataError: it cannot be had; with ``HARNESS_OFFLINE`` at once.
        StorageError: the cache cannot be written.
        UsageError: see :func:`harness.model.remote.is_offline`.
    """
    own = unpacks and remote.archive is not None
    if is_offline(environment) and not own and not remote.is_here():
        why = "nothing is fetched here, since compute nodes have no internet"
        raise missing(remote, why if remote.archive is None else "a job's ranks unpack nothing")
    done = fetch(remote, say)
    note_use(remote.path)
    return done


def bring_for_run(
    spec: Spec, run: Path, environment: Mapping[str, str], say: Callable[[str], None]
) -> bool:
    """The same for what a run needs, whose environment is prepared; whether anything of it is
    fetched.

    Raises:
        DataError, StorageError, UsageError: see :func:`bring`.
    """
    first = first_source(spec)
    remotes = remotes_of(first.backbone, first.image_sizes(), Shelves.of(environment))
    for remote in remotes:
        bring(remote, environment, say)
        note_use(remote.path, run)
    return bool(remotes)


def bring_alone(backbone: Backbone, sizes: tuple[int, ...], say: Callable[[str], None]) -> None:
    """The same for a verb that loads a backbone in this process, whose environment is prepared.

    Raises:
        DataError, StorageError, UsageError: see :func:`bring`.
    """
    for remote in remotes_of(backbone, sizes, Shelves.of(os.environ)):
        bring(remote, os.environ, say)
