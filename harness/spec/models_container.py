"""The container that ranks run in: what a spec says of the image, and a site of the runtime."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from harness.spec.base import (
    MAPPING,
    SCALAR,
    Complaint,
    IsPath,
    Many,
    SpecModel,
    Words,
    kind_of,
    show,
)

STORE = "containers-storage:"
"""What stands before the name of an image in podman's own store on the nodes."""
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
"""What an image begins with that is no path."""

Runtime = Literal["apptainer", "singularity", "charliecloud", "podman"]
# Between the source and the target of a mount, and between mounts, runtimes write `:` and `,`.
Mountable = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x1f\x7f:,]*[^\s\x00-\x1f\x7f:,][^\x00-\x1f\x7f:,]*$"),
    IsPath(),
    Words("a path without `:` and `,`"),
]
ImageText = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"),
    IsPath("image"),
    Words("the path of an image (SIF, squashfs, or a folder), or containers-storage:NAME"),
]
# What is started inside or on a node: a name or a path, never an option.
Program = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_./][A-Za-z0-9_./+-]*$", max_length=1000),
    Words("a program's name or path"),
]
RuntimeOption = Annotated[
    str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1000), Words("one word of a command")
]


def address_complaint(path: str, image: str) -> Iterator[Complaint]:
    """A complaint if the image is to come from a place that compute nodes do not reach."""
    if image.startswith("/") and ":" in image:
        what = "cannot be told from an address by the runtimes"
        yield Complaint(path, what, show(image), "a path without `:`", "rename or move the image")
        return
    if ADDRESS.match(image) is None or re.fullmatch(
        STORE + r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", image
    ):
        return
    yield Complaint(
        path,
        "is no image that a compute node can start: nothing is fetched there",
        show(image),
        "the path of a SIF file, a squashfs file or a folder, or containers-storage:NAME",
        "fetch it once, as in `apptainer pull image.sif docker://...`, and name the file",
    )


class Container(SpecModel):
    """An image, and how ranks are started in it."""

    image: ImageText
    """The image: a SIF or squashfs file, or a folder that holds its files, which all nodes see; or,
    with podman, `containers-storage:NAME` for one that is in the store of every node."""
    runtime: Runtime | None = None
    """What runs it; null is what the site says, else the first that a node has for such an image:
    apptainer, singularity, charliecloud, podman."""
    binds: Many[Mountable] = ()
    """Further folders that ranks see, under the same path; those that the spec itself names, the
    run directory and the cache are seen anyway."""
    python: Program = "python3"
    """Python inside the image, by name or path; harness must be installed in it."""

    def checks(self) -> Iterator[Complaint]:
        yield from address_complaint("image", self.image)
        if self.image.startswith(STORE) and self.runtime not in (None, "podman"):
            yield Complaint(
                "runtime",
                "has no store of images",
                show(self.runtime),
                "podman",
                "name the image's file or folder, or use podman",
            )


ContainerField = Annotated[
    Annotated[Container, Tag(MAPPING)] | Annotated[ImageText, Tag(SCALAR)],
    Discriminator(kind_of),
]


def container_of(value: Container | str | None) -> Container | None:
    """What `cluster.container` stands for: a path alone is an image with all else as usual."""
    return Container(image=value) if isinstance(value, str) else value


class SiteContainer(SpecModel):
    """How containers are run."""

    runtime: Runtime | None = None
    """What runs images; null takes the first that a node has for the image."""
    program: Program | None = None
    """Command of the runtime where it is not the usual one (`apptainer`, `singularity`, `ch-run`,
    `podman`), as `podman-hpc`."""
    options: Many[RuntimeOption] = ()
    """More options for it, each word by itself, before the image."""
    binds: Many[Mountable] = ()
    """Folders of this cluster that ranks see, under the same path."""

    def checks(self) -> Iterator[Complaint]:
        for name, value in (("program", self.program), ("options", self.options)):
            if value and self.runtime is None:
                what = "belongs to one runtime, and none is named"
                action = "name the runtime beside it"
                yield Complaint(name, what, show(value), None, action)
