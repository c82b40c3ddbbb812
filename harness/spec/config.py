"""What belongs to the user: accounts, where runs go, the usual site, whom to trust."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator

from harness.errors import Problem, SpecError
from harness.spec.base import (
    Complaint,
    IsPath,
    Many,
    Sha256,
    SpecModel,
    Words,
    as_text,
    complain,
    new,
    show,
)
from harness.spec.findings import Findings, check
from harness.spec.layers import Tree, tree_from_document
from harness.spec.models_cluster import SlurmWord
from harness.spec.pathtext import expand_paths
from harness.spec.yaml_read import parse_yaml, read_text


def _to_path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if isinstance(value, str) and value:
        return Path(value)
    raise complain(Complaint("", "is of the wrong type", show(value), "a path"))


Folder = Annotated[
    Path,
    PlainValidator(_to_path),
    PlainSerializer(as_text, return_type=str),
    IsPath(),
    Words("the path of a folder"),
]


class Trust(SpecModel):
    """Whose programs (SavedModels, plug-in files) may be loaded, beside one's own and root's."""

    owners: Many[str] = ()
    """Names of users whose files are trusted."""
    groups: Many[str] = ()
    """Names of groups whose files are trusted, and may be writable by the group."""
    digests: Many[Sha256] = ()
    """SHA-256 of files that are trusted whoever owns them."""


class UserConfig(SpecModel):
    """The user's own settings, `~/.config/harness/config.yaml`."""

    runs_root: Folder = Field(default_factory=lambda: Path.cwd() / "runs")
    """Folder that holds all runs; the default is `runs` in the current folder."""
    site: str | None = None
    """Site used when neither the command line nor the spec names one."""
    accounts: dict[str, SlurmWord] = Field(default_factory=dict)
    """Account that is charged, by site."""
    trust: Trust = new(Trust)
    """Whose programs may be loaded."""


def user_config_path() -> Path:
    """`$XDG_CONFIG_HOME/harness/config.yaml`, or the same under `~/.config`."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG base directory specification has relative paths ignored.
    base = Path(given) if given.startswith("/") else Path.home() / ".config"
    return base / "harness" / "config.yaml"


def load_user_config(path: Path | None = None) -> UserConfig:
    """The user's settings; the defaults when there is no file at the usual place.

    Raises:
        SpecError: the file is invalid, or ``path`` was given and there is none.
    """
    findings = Findings()
    user, _ = read_user_config(path, findings)
    if findings.problems:
        raise SpecError(findings.sorted())
    return user


def read_user_config(path: Path | None, findings: Findings) -> tuple[UserConfig, Tree]:
    """As :func:`load_user_config`, with the origins; problems go into ``findings``."""
    file = path or user_config_path()
    if path is None and not file.is_file():
        return UserConfig.model_construct(), Tree()
    shown = str(file)
    try:
        document = parse_yaml(read_text(file, shown), shown)
    except SpecError as error:
        findings.problems += error.problems
        return UserConfig.model_construct(), Tree()
    findings.problems += document.problems
    if document.data is None:
        return UserConfig.model_construct(), Tree()
    if not isinstance(document.data, dict):
        what = "the user config must be a mapping"
        findings.problems.append(Problem(what, show(document.data), file=shown, line=1))
        return UserConfig.model_construct(), Tree()
    tree = tree_from_document(document, "user config", shown, file.resolve().parent)
    own = Findings()
    expand_paths(UserConfig, tree, own)
    user = check(UserConfig, tree, own)
    findings.problems += own.problems
    return user or UserConfig.model_construct(), tree
