"""Makes sure that the installed Horovod works, by really reducing something over two ranks."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.distribute.horovod_built import HorovodFacts
from harness.errors import EnvironmentNotAble
from harness.launch import horovod_trial
from harness.launch.logged import Log

LONGEST_S = 900.0
"""Two first imports of TensorFlow from a slow file system, on a busy node."""

_SUM = 3.0
"""Of 1 (rank 0) and 2 (rank 1)."""

# Variables of a job around this process that would tell the two ranks where they are.
_PLACE_PREFIXES = ("HOROVOD_", "SLURM_", "PMI_", "PMIX_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_")
_PLACE = ("TF_CONFIG",)


@dataclass(frozen=True)
class Check:
    """One way to start two ranks: how it went, or why it was not tried (``ok`` is None)."""

    name: str
    ok: bool | None
    words: str


@dataclass(frozen=True)
class _Way:
    name: str
    command: tuple[str, ...]
    device: str
    controller: str
    variables: Mapping[str, str]


def verify(
    facts: HorovodFacts,
    environment: Mapping[str, str],
    *,
    gpus: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> list[Check]:
    """Sums over two ranks with no launcher, with horovodrun, and what else was built in.

    Args:
        gpus: that TensorFlow sees; NCCL is tried with two or more.
        say: told of each check once it is done.

    Raises:
        EnvironmentNotAble: one does not give the right sum, or Horovod says of itself something
            else than ``facts``; names the log, which stays.
    """
    folder = Path(tempfile.mkdtemp(prefix="harness-horovod-check-"))
    program = folder / "trial.py"
    shutil.copyfile(horovod_trial.__file__, program)
    done = []
    for check in _checks(facts, environment, gpus):
        if isinstance(check, _Way):
            check = _try(check, program, facts, environment)
        say(f"{check.name:<10} {check.words}")
        done.append(check)
    shutil.rmtree(folder)
    return done


def _checks(facts: HorovodFacts, environment: Mapping[str, str], gpus: int) -> list[_Way | Check]:
    patient = {"HOROVOD_GLOO_TIMEOUT_SECONDS": "300"}
    found: list[_Way | Check] = []
    if facts.gloo:
        found.append(_Way("gloo", (sys.executable,), "CPU", "gloo", patient))
        found.append(_Way("horovodrun", _HOROVODRUN, "CPU", "gloo", patient))
    if facts.mpi:
        mpirun = shutil.which("mpirun", path=environment.get("PATH"))
        if mpirun is None:
            found.append(Check("mpirun", None, "not tried: no mpirun on the PATH"))
        else:
            command = (mpirun, "-np", "2", sys.executable)
            found.append(_Way("mpirun", command, "CPU", "mpi", _MPI))
    if facts.nccl and facts.gloo:
        if gpus < horovod_trial.RANKS:
            found.append(Check("nccl", None, f"not tried: it takes two GPUs, and {gpus} are seen"))
        else:
            found.append(_Way("nccl", (sys.executable,), "GPU", "gloo", patient))
    return found


# As its console script does, which need not be on the PATH.
_HOROVODRUN = (
    *(sys.executable, "-m", "horovod.runner.launch", "-np", "2", "-H", "localhost:2", "--gloo"),
    *("--start-timeout", "300", sys.executable),
)
# Open MPI (4, and 5 by PRRTE) refuses root, as in a container, and more ranks than cores.
_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def _try(way: _Way, program: Path, facts: HorovodFacts, environment: Mapping[str, str]) -> Check:
    folder = program.parent / way.name
    folder.mkdir()
    # Where a launcher brings the ranks together the program is one of them.
    part = "meet" if way.command == (sys.executable,) else "rank"
    command = [*way.command, str(program), part, str(folder), way.device]
    with Log(program.parent / f"{way.name}.log") as log:
        code = log.run(command, _variables(way, environment), longest_s=LONGEST_S)
    wrong = _what_is_wrong(code, log, folder, way, facts)
    if wrong:
        raise EnvironmentNotAble(
            f"two ranks of Horovod by {way.name} do not work",
            got=wrong,
            allowed=f"the sum {_SUM:g} on both ranks",
            action=f"see {log.path}, and docs/horovod.md for the usual causes",
        )
    return Check(way.name, True, f"2 ranks, sum {_SUM:g} on {way.device}, {way.controller}")


def _variables(way: _Way, environment: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_PLACE_PREFIXES) and name not in _PLACE
    }
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"} if way.device == "CPU" else {}
    return {**kept, **hidden, "TF_CPP_MIN_LOG_LEVEL": "2", **way.variables}


def _what_is_wrong(code: int, log: Log, folder: Path, way: _Way, facts: HorovodFacts) -> str | None:
    """In words; None if all is well."""
    seen = [json.loads(file.read_text()) for file in sorted(folder.glob("rank-*.json"))]
    if code or len(seen) != horovod_trial.RANKS:
        return f"exit code {code}, {log.telling()}"
    for one in seen:
        if (one["size"], one["lowest"], one["highest"]) != (horovod_trial.RANKS, _SUM, _SUM):
            return f"rank {one['rank']} of {one['size']}, sums {one['lowest']} to {one['highest']}"
        if one["controller"] != way.controller:
            return f"ranks that met by {one['controller']}"
        if tuple(one["built_with"]) != facts.built_with:
            return f"one built with {_listed(one['built_with'])}, not {_listed(facts.built_with)}"
    return None


def _listed(names: Sequence[str]) -> str:
    return " ".join(names) or "nothing"
