"""Staging by hand: the backbone that a spec or a handle names, in the cache that jobs share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError, UsageError
from harness.model.fetch import fetch
from harness.model.kept import note_use
from harness.model.pinned import check_digest, digest_of
from harness.model.remote import Remote, is_offline, missing, remotes_of
from harness.spec.models_model import Backbone
from harness.worker.backbones import shelves_of


@dataclass(frozen=True)
class StagedBackbone:
    """What was done for a backbone.

    ``fetched`` says whether it was brought into the cache now; ``digest`` is its SHA-256, where it
    was asked for.
    """

    handle: str
    path: Path
    bytes: int
    fetched: bool
    seconds: float
    digest: str | None = None


def remotes_for(
    backbone: Backbone, sizes: Sequence[int], environment: Mapping[str, str]
) -> list[Remote]:
    """What there is to fetch of a backbone and its preprocessor.

    Args:
        environment: of the ranks.

    Raises:
        StorageError: see :func:`harness.worker.backbones.shelves_of`.
    """
    return remotes_of(backbone, sizes, shelves_of(environment))


def stage_backbone(
    remote: Remote,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    given: Path | None = None,
) -> StagedBackbone:
    """Has a backbone in the cache.

    Args:
        given: a file that its address gives, brought here by other means; None asks the address.

    Raises:
        DataError: it cannot be had, or is not what it should be.
        StorageError: the cache cannot be written.
        UsageError: there is one already, which no file replaces, or the handle names a file.
    """
    if given is not None and remote.archive is not None:
        raise UsageError(
            "--from is of a backbone that lies elsewhere, and this one is a file already",
            got=str(given),
            action=f"leave out --from, or name {given} in the spec",
        )
    if given is not None and not (given.is_file() and os.access(given, os.R_OK)):
        raise DataError(
            "there is no such file, or it may not be read",
            got=str(given),
            allowed="what the address of the backbone gives: a .tar.gz, or weights (.h5)",
            action="correct --from",
        )
    if given is not None and remote.is_here():
        raise UsageError(
            "the backbone is in the cache already, and --from replaces none",
            got=str(remote.path),
            action="remove it first, or leave out --from",
        )
    asks = given is None and remote.archive is None
    if asks and is_offline(environment) and not remote.is_here():
        raise missing(remote, "nothing is fetched, as HARNESS_OFFLINE is set")
    done = fetch(remote, say, given)
    note_use(remote.path)
    return StagedBackbone(remote.handle, remote.path, done.bytes, done.fetched, done.seconds)


def digest_here(
    backbone: Backbone, sizes: Sequence[int], remote: Remote, say: Callable[[str], None]
) -> str:
    """The digest that a run would pin, of a backbone in the cache; reads all of it.

    That of Keras' weights is of their values, so it takes TensorFlow to compute it.

    Raises:
        DataError: it is not the one that ``backbone.digest`` pins.
        EnvironmentNotAble: TensorFlow is needed and not installed.
    """
    if remote.is_module:
        found = digest_of(remote.path)
    else:
        # Keras looks where the ranks would.
        os.environ["KERAS_HOME"] = str(remote.path.parent.parent)
        found = _of_weights(backbone, sizes, say)
    check_digest(found, backbone.digest, backbone.handle, "the spec")
    return found


def _of_weights(backbone: Backbone, sizes: Sequence[int], say: Callable[[str], None]) -> str:
    from harness.spec.keras_names import keras_name
    from harness.worker.environment import import_tensorflow, prepare

    prepare(os.environ, say)
    import_tensorflow(None)
    from harness.model.keras_apps import digest_of_weights, load_application
    from harness.model.remote import IMAGENET

    name = keras_name(backbone.handle)
    assert name is not None, "weights are of an application of Keras"
    return digest_of_weights(name, load_application(name, IMAGENET, sizes))


def not_fetched(handle: str) -> UsageError:
    """The error of a backbone that lies on this cluster already, or is made here."""
    return UsageError(
        "nothing is fetched of this backbone",
        got=handle,
        allowed="https://... (TensorFlow Hub), keras:NAME with the weights imagenet, or an archive",
        action="nothing has to be done: others lie on storage that all nodes share already",
    )
