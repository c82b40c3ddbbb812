"""Whether the backbone that a spec names is in the cache, and fetching it, before anything is
queued: compute nodes have no internet.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError
from harness.spec.existence import placed
from harness.spec.handles import archive_of

if TYPE_CHECKING:
    from harness.model.remote import Remote
    from harness.runs.paths import RunPaths
    from harness.spec import Resolved
    from harness.spec.models_site import Site


@dataclass(frozen=True)
class CachedBackbone:
    """Where a backbone that is fetched or unpacked lies, or will lie; its size in bytes once it is
    there."""

    handle: str
    path: Path
    cached: bool
    bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "handle": self.handle,
            "path": str(self.path),
            "cached": self.cached,
            "bytes": self.bytes,
        }

    def __str__(self) -> str:
        if self.cached:
            return f"the backbone {self.handle} is in the cache: {self.path}"
        verb = "fetches" if archive_of(self.handle) is None else "unpacks"
        return (
            f"the backbone {self.handle} is not in the cache; `harness submit` {verb} it first "
            f"({self.path})"
        )


def environment_of(resolved: Resolved) -> dict[str, str]:
    """The variables that a job's ranks have, as far as the cache hangs on them."""
    return environment_at(resolved.site)


def environment_at(site: Site) -> dict[str, str]:
    """The same, of jobs at a site."""
    return {**os.environ, **site.environment.variables}


def look_for_backbone(resolved: Resolved) -> CachedBackbone | None:
    """Looks, and fetches nothing; None of a backbone that is not fetched.

    Raises:
        DataError: what lies there is no SavedModel.
        StorageError: there is no cache that jobs see.
    """
    remotes = _remotes(resolved)
    if not remotes:
        return None
    # Of a preprocessor it is said where that alone is not there.
    remote = next((one for one in remotes if not one.is_here()), remotes[0])
    here = remote.is_here()
    return CachedBackbone(remote.handle, remote.path, here, remote.bytes if here else None)


def check_backbone(resolved: Resolved, say: Callable[[str], None]) -> None:
    """Has the backbone in the cache, downloaded if need be, and nobody's program but a trusted one.

    Its content is not read: that is for the ranks, and a login node is shared.

    Raises:
        DataError: it cannot be had, is no SavedModel, or not trusted; with the line of its field.
        StorageError: the cache cannot be written, or jobs would not see it.
    """
    remotes = _remotes(resolved)
    if not remotes:
        return
    from harness.model.pinned import check_owners
    from harness.worker.backbones import bring

    for remote in remotes:
        try:
            if remote.archive is not None:  # before it is unpacked, which makes its files ours
                check_owners(remote.archive, resolved.user.trust, remote.role)
            bring(remote, environment_of(resolved), say, unpacks=True)
            if remote.is_module:
                check_owners(remote.path, resolved.user.trust, remote.role)
        except DataError as error:
            raise DataError(
                [
                    placed(remote.role.field, replace(one, path=None), resolved)
                    for one in error.problems
                ]
            ) from error


def note_backbone(resolved: Resolved, paths: RunPaths) -> None:
    """Notes that a run needs its backbone, which stays in the cache until the run is over."""
    for remote in _remotes(resolved):
        from harness.model.kept import note_use

        note_use(remote.path, paths.root)


def _remotes(resolved: Resolved) -> list[Remote]:
    from harness.model.remote import IMAGENET
    from harness.runs.earlier import first_source
    from harness.spec.keras_names import keras_name

    # Of a run of a run, that of the first one.
    spec = first_source(resolved.spec)
    backbone = spec.backbone
    published = keras_name(backbone.handle) is not None and backbone.weights in (None, IMAGENET)
    # Looked at first: a spec whose backbone lies here needs no cache.
    handles = (backbone.handle, backbone.preprocessor or "")
    elsewhere = any(one.startswith("https://") or archive_of(one) is not None for one in handles)
    if not published and not elsewhere:
        return []
    from harness.model.remote import remotes_of
    from harness.worker.backbones import shelves_of

    return remotes_of(backbone, spec.image_sizes(), shelves_of(environment_of(resolved)))
