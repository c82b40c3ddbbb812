"""What of the submitting shell must not reach the job.

sbatch hands the job a copy of the shell's variables.  Much of that is true of the login node
only: its temporary folder, its display, the job it may itself be inside of, the Python that
happened to be active.  A job that starts with it works from one shell and not from another.
Pure.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from harness.launch.slurm import slurm_variables

_NAMES = frozenset(
    {
        # A process's place in some other parallel program.
        "TF_CONFIG",
        # The devices that another job was given, and how another machine's cores are shared out.
        "CUDA_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL",
        "HIP_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "ZE_AFFINITY_MASK",
        "GOMP_CPU_AFFINITY",
        "KMP_AFFINITY",
        "OMP_NUM_THREADS",
        "OMP_PLACES",
        "OMP_PROC_BIND",
        # The Python that was active.
        "PYTHONEXECUTABLE",
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PYTHONUSERBASE",
        "VIRTUAL_ENV",
        "VIRTUAL_ENV_PROMPT",
        # Folders and sessions of the login node.
        "TMPDIR",
        "TMP",
        "TEMP",
        "TEMPDIR",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
        "SESSION_MANAGER",
        "STY",
        "XDG_RUNTIME_DIR",
        # Which modules are loaded.  Without them the job loads the site's modules anew, instead
        # of taking for loaded what lost its variables here.
        "LOADEDMODULES",
    }
)
_PREFIXES = (
    "SUBMITIT_",
    "HOROVOD_",
    "HYDRA_",
    "OMPI_",
    "ORTE_",
    "PMI_",
    "PMI2_",
    "PMIX_",
    "PRTE_",
    "CONDA_",
    "_CE_",
    "MAMBA_",
    "PYENV_",
    "SSH_",
    "TMUX",
    "DBUS_",
    "XDG_SESSION_",
    "_LMFILES_",
    "__MODULES_",
    "__LMOD_REF_COUNT_",
    "_ModuleTable",
)
# Of these the job itself may have some, from its scheduler or its site: a script must leave them.
_OF_THE_JOB = ("TMP", "TEMP", "VISIBLE_DEVICES", "GPU_DEVICE", "AFFINITY", "XDG_RUNTIME", "LOADED")
_OF_MODULES = ("_LMFILES_", "__MODULES_", "__LMOD_REF_COUNT_", "_ModuleTable")
# Whatever an odd prefix says, these are the system's.
_SYSTEM = frozenset(
    f"{above}/{name}" for above in ("", "/usr", "/usr/local") for name in ("bin", "sbin")
)


class Scrubbed(NamedTuple):
    """How ``sbatch`` is to be called: ``env -u NAME ... PATH=path sbatch FILE``."""

    removed: list[str]
    """Names of the variables that are not handed on, sorted."""
    path: str
    """PATH without the folders of an active Python environment; never empty."""


def scrubbed(environ: Mapping[str, str], prefix: str | None = None) -> Scrubbed:
    """What to take out of the variables of the submitting shell.

    Args:
        environ: its variables.
        prefix: root of the environment that the submitting Python lies in (``sys.prefix``), which
            may be on PATH without having been activated.
    """
    scheduler = set(slurm_variables(environ))
    removed = [
        name
        for name in environ
        if name in scheduler or name in _NAMES or name.startswith(_PREFIXES)
    ]
    active = [
        value
        for name, value in environ.items()
        if name == "VIRTUAL_ENV" or name.startswith("CONDA_PREFIX")
    ]
    return Scrubbed(sorted(removed), _path(environ.get("PATH", ""), [*active, prefix or ""]))


def unset_line() -> str:
    """The bash line that takes them out of a job whose sbatch somebody else has called.

    What the job may have been given by its scheduler, its site's prologue or its modules stays,
    and so does PATH.
    """
    names = sorted(name for name in _NAMES if not any(part in name for part in _OF_THE_JOB))
    prefixes = sorted(set(_PREFIXES) - set(_OF_MODULES))
    return " ".join(["unset", *names, *(f'"${{!{prefix}@}}"' for prefix in prefixes)])


def _path(path: str, prefixes: Iterable[str]) -> str:
    roots = [posixpath.normpath(root) for root in prefixes if root.startswith("/")]
    kept = [
        folder
        for folder in path.split(":")
        # Relative entries, and the empty one, mean another folder in the job than in the shell.
        if folder.startswith("/") and not _inside(posixpath.normpath(folder), roots)
    ]
    return ":".join(kept) or "/usr/bin:/bin"


def _inside(folder: str, roots: Iterable[str]) -> bool:
    if folder in _SYSTEM:
        return False
    # A venv's root may itself hold others' programs (/usr as a prefix): only its own folders go.
    return any(folder in (f"{root}/bin", f"{root}/condabin", f"{root}/sbin") for root in roots)
