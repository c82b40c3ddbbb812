"""The bash lines that find a job's Python, as the site says.

They run in the batch shell on the job's first node, in front of the step, with neither ``set -e``
nor ``set -u``.  At their end the shell variable ``harness_python`` holds the Python of the ranks,
an absolute path that is valid on every node of the job, or, in a container, a name that is valid
in there.  On failure they call ``harness_refuse 3
TEXT``, which the script has defined.

What stands in the profile reaches the shell only quoted.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from harness.launch.container import Inside, container_lines
from harness.spec import Site

_FOLDER = Path(__file__).resolve().parent
_HOW = "see how a profile says where Python is, environment in the docs' page on sites"


def environment_lines(
    site: Site, python: str | None = None, inside: Inside | None = None
) -> list[str]:
    """Lines for the start of the batch script.

    Args:
        site: the profile.
        python: the Python that is used where the site names none; None is the one that runs this.
        inside: the container of the ranks, whose Python is then used.
    """
    wanted = site.environment
    # Not resolved: through the link of a virtual environment its packages would be lost.
    mine = os.path.abspath(python or sys.executable)  # noqa: PTH100
    lines = [
        # Also where a site has --export=NONE, the ranks get what is set from here on.
        "unset SLURM_EXPORT_ENV",
        *([] if inside is not None else _file("environment_python.sh")),
        *(f"export {name}={shlex.quote(text)}" for name, text in wanted.variables.items()),
        *_init(site),
        *_modules(site),
    ]
    if inside is not None:
        return [*lines, *container_lines(inside)]
    if wanted.build is not None:
        return [*lines, *_build(site, mine)]
    if wanted.venv is not None:
        return [*lines, *_venv(site, wanted.venv)]
    if wanted.modules or wanted.init is not None:
        # Never the Python that submits: where the modules bring none, the node's own is meant.
        setting = f"site {site.name}: environment.{'modules' if wanted.modules else 'init'}"
        return [*lines, _call("harness_use_python", _FOUND, setting, _INSTALL)]
    setting = f"site {site.name}: no environment, so the Python that submitted"
    return [*lines, _call("harness_use_python", mine, setting, _HOW)]


def cleanup_lines(site: Site, inside: Inside | None = None) -> list[str]:
    """Lines for the end of the batch script."""
    built = site.environment.build is not None and inside is None
    return ["harness_remove_build"] if built else []


class _Code(str):
    """A word that is bash already, not data."""


_FOUND = _Code('"$(type -P python3)"')
_INSTALL = "install harness for this Python, or make a virtual environment and name it in venv"


def _call(function: str, *arguments: str) -> str:
    words = (word if isinstance(word, _Code) else shlex.quote(word) for word in arguments)
    return " ".join([function, *words])


def _file(name: str) -> list[str]:
    return (_FOLDER / name).read_text(encoding="utf-8").rstrip().split("\n")


def _init(site: Site) -> list[str]:
    file = site.environment.init
    if file is None:
        return []
    text = f"site {site.name}: environment.init: {file} cannot be read on this node; next: correct \
the path, or copy the file to where all nodes see it"
    # Its last command's code says nothing, many such files end with a test.
    return [
        f"if [ ! -r {shlex.quote(file)} ]; then {_call('harness_refuse', '3', text)}; fi",
        f". {shlex.quote(file)}",
    ]


def _modules(site: Site) -> list[str]:
    names = site.environment.modules
    if not names:
        return []
    loads = [_call("harness_load_module", site.name, name) for name in names]
    return [*_file("environment_modules.sh"), *loads]


def _venv(site: Site, venv: str) -> list[str]:
    where = shlex.quote(venv)
    setting = f"site {site.name}: environment.venv"
    action = "make it on a file system that all nodes share, and install harness in it"
    return [
        _call("harness_use_python", f"{venv}/bin/python", setting, action),
        f"export VIRTUAL_ENV={where} PATH={where}/bin:$PATH",
    ]


def _build(site: Site, mine: str) -> list[str]:
    wanted = site.environment
    assert wanted.build is not None, "there is something to build"
    made_by = _FOUND if wanted.modules or wanted.init is not None else mine
    return [
        *_file("environment_build.sh"),
        _call(
            "harness_build",
            site.name,
            made_by,
            wanted.build.requirements,
            wanted.build.wheelhouse or "",
            *site.scratch_variables,
        ),
    ]
