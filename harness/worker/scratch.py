"""Where on this node packed data are staged: what a spec, its site and the job's variables say."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.staging import staged_folder
from harness.errors import SpecError
from harness.runs.mounts import here
from harness.spec.models_site import Site
from harness.spec.site import load_site

SCRATCH = "scratch"
_USUAL = Path("/tmp")  # noqa: S108 - what is made in it is checked to be ours
_JOBS_OWN = "SLURM_TMPDIR"
"""The one variable of which it is known that the site empties its folder when the job ends."""


class NotStaged(Exception):
    """Nothing is staged; says why."""


@dataclass(frozen=True)
class Place:
    """A folder of this node for staged sets.

    ``said`` is what named it.  With ``private`` what is staged there goes with the job, whose own
    the folder is, or of whose data nothing is to stay.
    """

    folder: Path
    said: str
    private: bool = False

    @property
    def base(self) -> Path:
        """Of this user's staged sets."""
        return staged_folder(self.folder)


def place_of(stage: str, variables: Sequence[str], environment: Mapping[str, str]) -> Place:
    """The place that ``cluster.stage`` means.

    Args:
        stage: ``scratch``, or a folder.
        variables: the site's ``scratch_variables``.

    Raises:
        NotStaged: scratch is a network file system.
    """
    if stage != SCRATCH:
        return Place(Path(stage), "cluster.stage")
    place = _scratch(variables, environment)
    _, mount = here(place.folder)
    if mount is not None and mount.is_network:
        raise NotStaged(
            f"{place.said} names {place.folder}, which is shared storage itself ({mount.kind}); "
            "next: name the node's own disk in scratch_variables of the site, or in cluster.stage"
        )
    return place


def scratch_variables(site: str | None, say: Callable[[str], None]) -> Sequence[str]:
    """The names of variables that a site's scratch folder may be in.

    Args:
        site: of the spec; None takes the usual ones.
        say: hears that the usual ones are taken because the site cannot be read.
    """
    if site is not None:
        try:
            return load_site(site).scratch_variables
        except SpecError as error:  # renamed or changed since, or not seen from this node
            say(f"the usual scratch variables are taken, not those of the site: {error}")
    usual: Sequence[str] = Site.model_fields["scratch_variables"].default
    return usual


def _scratch(variables: Sequence[str], environment: Mapping[str, str]) -> Place:
    for name in variables:
        value = environment.get(name)
        if value and Path(value).is_dir():
            private = name == _JOBS_OWN or _is_of_job(value, environment.get("SLURM_JOB_ID"))
            return Place(Path(value), name, private)
    return Place(_USUAL, "no scratch variable")


def _is_of_job(folder: str, job: str | None) -> bool:
    """Whether the number of a job stands in the folder's name by itself."""
    return bool(job) and job in re.findall(r"\d+", folder)


def node_name(environment: Mapping[str, str]) -> str:
    """Of this node: SLURM's, where several share a machine."""
    return environment.get("SLURMD_NODENAME") or socket.gethostname()


def same_file_system(one: Path, other: Path) -> bool:
    """Whether two folders are on one device; the nearest folder that exists stands for each."""
    (first, _), (second, _) = here(one), here(other)
    return first.stat().st_dev == second.stat().st_dev
