"""The container that this process runs in, for the run record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

IMAGE = "HARNESS_CONTAINER_IMAGE"
"""Variables that the batch script of a submitted run sets: the image's path, its runtime, and by
what it is known again ("sha256:HEX of WHAT")."""
RUNTIME = "HARNESS_CONTAINER_RUNTIME"
DIGEST = "HARNESS_CONTAINER_DIGEST"
_FOLDER = Path("/usr/local/share/harness")
_MARKS = {Path("/run/.containerenv"): "podman", Path("/.dockerenv"): "docker"}


def container_facts(
    environment: Mapping[str, str] = os.environ, folder: Path = _FOLDER
) -> dict[str, Any] | None:
    """What is known of the container around this process; None where there is none.

    ``{image, runtime, digest, digest_of, version}``, each None where nobody says it.  ``digest``
    is ``sha256:HEX``; of a folder it is that of the list of packages that the build of the image
    wrote.  ``version`` is that of the harness for which our own recipe made the image.

    Args:
        folder: where our own recipe leaves what it says of the image.
    """
    runtime = environment.get(RUNTIME) or _runtime(environment)
    if runtime is None:
        return None
    digest, _, kind = environment.get(DIGEST, "").partition(" of the ")
    image = environment.get(IMAGE) or environment.get(
        "APPTAINER_CONTAINER", environment.get("SINGULARITY_CONTAINER")
    )
    return {
        "image": image,
        "runtime": runtime,
        "digest": digest or None,
        "digest_of": kind or None,
        "version": _version(folder),
    }


def _runtime(environment: Mapping[str, str]) -> str | None:
    """By what each runtime sets inside; Apptainer also sets the names of its forerunner."""
    if "APPTAINER_CONTAINER" in environment:
        return "apptainer"
    if "SINGULARITY_CONTAINER" in environment:
        return "singularity"
    if "CH_RUNNING" in environment:
        return "charliecloud"
    return next((name for mark, name in _MARKS.items() if mark.exists()), None)


def _version(folder: Path) -> str | None:
    try:
        return (folder / "version").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
