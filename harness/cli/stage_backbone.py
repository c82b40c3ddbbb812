"""``harness stage``, as far as it is about the backbone."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.model.remote import Remote
    from harness.spec import Resolved
    from harness.spec.models_model import Backbone
    from harness.worker.stage_backbone import StagedBackbone


@dataclass(frozen=True)
class Wanted:
    """A backbone that is fetched, and the sizes of the pictures that it is to take."""

    backbone: Backbone
    sizes: tuple[int, ...]
    remote: Remote
    environment: dict[str, str]


def add_backbone_arguments(parser: argparse.ArgumentParser) -> None:
    """``--from`` and ``--digest``."""
    add = parser.add_argument
    add(
        "--from",
        dest="given",
        metavar="FILE",
        type=Path,
        help="take the backbone from this file, which its address gave elsewhere; no network is "
        "used",
    )
    add(
        "--digest",
        action="store_true",
        help="read all of the backbone for its SHA-256, and hold it against backbone.digest",
    )


def is_handle(text: str) -> bool:
    """Whether an argument is the handle of a backbone that is fetched or unpacked."""
    from harness.spec.handles import archive_of

    return text.startswith(("https://", "keras:", "hub:", "file:")) or archive_of(text) is not None


def resolved_handle(handle: str, site: str | None) -> Resolved:
    """As a spec with nothing but this backbone would have it."""
    from harness.spec import load_spec

    least = {
        "harness_spec": 1,
        "name": "stage",
        "backbone": {"handle": handle},
        "data": {"train": "."},
    }
    return load_spec(least, site=site)


def wanted_of(resolved: Resolved, *, alone: bool) -> list[Wanted]:
    """What is fetched: the backbone, and what stands before it.

    Args:
        alone: it was given as a handle, so nothing is said of its pictures.
    """
    from harness.launch.backbone_check import environment_of
    from harness.runs.earlier import first_source
    from harness.spec.models_model import Backbone
    from harness.worker.stage_backbone import remotes_for

    spec = first_source(resolved.spec)
    backbone = spec.backbone
    sizes = () if alone else spec.image_sizes()
    environment = environment_of(resolved)
    found = []
    for remote in remotes_for(backbone, sizes, environment):
        own = remote.handle == backbone.handle
        one = backbone if own else Backbone(handle=remote.handle)
        found.append(Wanted(one, sizes if own else (), remote, environment))
    return found


def stage_it(wanted: Wanted, args: argparse.Namespace) -> StagedBackbone:
    """Fetches it, and reads it for its digest if that is asked for here."""
    from harness.worker.stage_backbone import digest_here, stage_backbone

    done = stage_backbone(wanted.remote, wanted.environment, _say, args.given)
    if args.digest and not args.slurm:
        found = digest_here(wanted.backbone, wanted.sizes, wanted.remote, _say)
        return replace(done, digest=found)
    return done


def facts(done: StagedBackbone) -> dict[str, Any]:
    """What was done, as plain JSON."""
    import dataclasses

    return dataclasses.asdict(done)


def tell(done: StagedBackbone) -> None:
    """What was done, in words."""
    from harness.runs.storage import readable_bytes
    from harness.spec.handles import archive_of

    size = readable_bytes(done.bytes)
    verb = "fetched" if archive_of(done.handle) is None else "unpacked"
    how = f"{verb} in {done.seconds:.1f} s" if done.fetched else "it was in the cache"
    print(f"{done.handle}: {size}; {how}")
    print(f"  {done.path}")
    if done.digest is not None:
        print(f"  sha256 {done.digest}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
