"""Where this process stands among the processes of a run, read from the environment.

Pure: a mapping of variables in, a value out; nothing is contacted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import EnvironmentNotAble

# Who sets which pair of variables (rank, world size), most specific first.  SLURM_NTASKS is
# not among them: an interactive allocation sets it in a shell that is no rank at all, while
# SLURM_STEP_NUM_TASKS exists only inside a step that srun started.
_LAUNCHERS = (
    ("horovodrun", "HOROVOD_RANK", "HOROVOD_SIZE"),
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


@dataclass(frozen=True)
class Topology:
    """One process' place: ``rank`` of ``size``, and who said so (``source``)."""

    rank: int = 0
    size: int = 1
    source: str = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank must be in [0, size - 1], was {self.rank} of {self.size}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Topology:
        """Reads the variables of horovodrun, mpirun, srun, or takes one process for all.

        Raises:
            EnvironmentNotAble: a launcher's variables are there and are no valid numbers.
        """
        for source, rank_name, size_name in _LAUNCHERS:
            if rank_name in environment and size_name in environment:
                rank, size = environment[rank_name], environment[size_name]
                try:
                    return cls(int(rank), int(size), source)
                except ValueError:
                    raise EnvironmentNotAble(
                        f"the variables of {source} are not a rank and a size",
                        got=f"{rank_name}={rank!r} {size_name}={size!r}",
                        allowed="whole numbers, 0 <= rank < size",
                        action=f"unset both, or start the job with {source} again",
                    ) from None
        return cls()
