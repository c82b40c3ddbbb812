"""Ranks in a container: what a spec and its site say of it, and the bash lines that enter it.

srun stays outside and starts one container a rank; so does the batch shell.  What is on the node
(the kind of the image, the runtimes, GPUs) is looked at there, by ``environment_container.sh``.
What stands in a spec or a profile reaches the shell only quoted.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness.errors import Problem, SpecError
from harness.runs.paths import RunPaths
from harness.spec import Resolved, Spec
from harness.spec.base import show
from harness.spec.existence import missing_image, placed
from harness.spec.layers import dotted
from harness.spec.models_container import container_of
from harness.spec.models_site import SiteContainer
from harness.spec.pathtext import split_path
from harness.spec.shape import model_shape, walk

INSIDE = '"${harness_inside[@]}"'
"""Stands in the step's command before what runs in the container."""
_FUNCTIONS = Path(__file__).with_name("environment_container.sh")
_FIELD = "cluster.container"
_FOLDERS = ("HARNESS_CACHE", "TFHUB_CACHE_DIR", "KERAS_HOME", "XDG_CACHE_HOME")
# True of the Python and the libraries outside; inside they would bring what does not fit.
_OUTSIDE = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONUSERBASE",
    "VIRTUAL_ENV",
)


@dataclass(frozen=True)
class Inside:
    """The container of a job.

    ``binds`` are paths that the ranks must see, each with the field that names it;
    ``variables`` name folders that they see where they are set, and ``folders`` are seen where they
    are there; ``hidden`` are variables that do not reach them.
    """

    image: str
    runtime: str | None
    program: str | None
    python: str
    options: tuple[str, ...]
    binds: tuple[tuple[str, str], ...]
    variables: tuple[str, ...]
    folders: tuple[str, ...]
    hidden: tuple[str, ...]


def inside_of(
    resolved: Resolved, paths: RunPaths, sees: Mapping[str, str] = MappingProxyType({})
) -> Inside | None:
    """The container that the ranks run in; None where they run in none.

    Args:
        sees: more paths that they must see, each with what names it.

    Raises:
        SpecError: a path that they must see cannot be mounted.
    """
    wanted = container_of(resolved.spec.cluster.container)
    if wanted is None:
        return None
    environment = resolved.site.environment
    site = environment.container or SiteContainer()
    own = wanted.runtime is not None and wanted.runtime != site.runtime
    stage = resolved.spec.cluster.stage
    binds = {
        str(paths.root): "the run directory",
        **{path: field for field, path in paths_of(resolved.spec)},
        **sees,
        **dict.fromkeys(wanted.binds, f"{_FIELD}.binds"),
        **dict.fromkeys(site.binds, "the site's environment.container.binds"),
    }
    _check_binds(binds, resolved)
    return Inside(
        wanted.image,
        wanted.runtime or site.runtime,
        # They belong to the runtime of the profile.
        None if own else site.program,
        wanted.python,
        () if own else site.options,
        tuple(sorted(binds.items())),  # a folder comes before those in it
        (*_FOLDERS, *resolved.site.scratch_variables),
        () if stage in ("none", "scratch") else (stage,),
        tuple(name for name in _OUTSIDE if name not in environment.variables),
    )


def paths_of(spec: Spec) -> Iterator[tuple[str, str]]:
    """Every path that a spec names for its ranks, with its field: data, backbone, and so on.

    Plug-ins are not among them: a run has its own copies.
    """
    data = spec.model_dump(mode="json", by_alias=True)
    for where, value, shape in walk(model_shape(Spec), data):
        if where[:1] in (("cluster",), ("plugins",)):
            continue
        if shape.path is not None and isinstance(value, str):
            path = split_path(value, shape.path)[1]
            if path is not None and path.startswith("/"):
                yield dotted(where) or "", path


def check_image(resolved: Resolved) -> None:
    """Looks at the image before anything is queued.

    Raises:
        SpecError: it is not there, cannot be read, or is somebody else's.
    """
    found = list(missing_image(resolved.spec, resolved.user.trust))
    if found:
        raise SpecError([placed(path, problem, resolved) for path, problem in found])


def _check_binds(binds: dict[str, str], resolved: Resolved) -> None:
    bad = [
        placed(
            field,
            Problem(
                "cannot be mounted in a container",
                show(path, 200),
                "paths of printable characters without `:` and `,`",
                "rename it, or reach it by a link without them",
            ),
            resolved,
        )
        for path, field in binds.items()
        if not path.isprintable() or ":" in path or "," in path
    ]
    if bad:
        raise SpecError(bad)


def container_lines(inside: Inside) -> list[str]:
    """Lines that choose the runtime, mount what is needed, and look whether harness is inside."""
    quoted = shlex.quote
    return [
        *_FUNCTIONS.read_text(encoding="utf-8").rstrip().split("\n"),
        "",
        f"harness_image={quoted(inside.image)}",
        f"harness_container_options=({shlex.join(inside.options)})",
        f"harness_hidden=({' '.join(inside.hidden)}) harness_binds=()",
        shlex.join(["harness_choose_runtime", _FIELD, inside.runtime or "", inside.program or ""]),
        *(f"harness_see {quoted(path)} {quoted(field)}" for path, field in inside.binds),
        *(f"harness_see_variable {name}" for name in inside.variables),
        *(f"harness_see_if_there {quoted(folder)}" for folder in inside.folders),
        'harness_see_if_there "${XDG_CACHE_HOME:-$HOME/.cache}/harness"',
        # Whom the user trusts is asked again by the ranks.
        'harness_see_if_there "${XDG_CONFIG_HOME:-$HOME/.config}/harness"',
        f"harness_enter {_FIELD}",
        shlex.join(["harness_check_inside", _FIELD, inside.python, _version()]),
    ]


def _version() -> str:
    # Not by an import: the package's own module leads to every room above this one.
    return str(sys.modules["harness"].__version__)
