"""Site profiles: found by name or by path, read, and checked like a spec."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from harness.errors import Problem, SpecError
from harness.spec.base import IsPath, show
from harness.spec.config import user_config_path
from harness.spec.findings import Findings, check
from harness.spec.layers import Tree, tree_from_document
from harness.spec.models_site import Site
from harness.spec.pathtext import Undefined, absolute, expand_paths
from harness.spec.yaml_read import parse_yaml, read_text

SITES = Path(__file__).resolve().parent / "sites"
"""Profiles that come with the package."""


def site_names() -> list[str]:
    """Names of the profiles that are found without a path."""
    return sorted({file.stem for folder in _folders() for file in folder.glob("*.yaml")})


def _folders() -> list[Path]:
    """Where profiles are looked for: the user's, those of the system's administrator, ours."""
    system = os.environ.get("HARNESS_SITES")
    between = [Path(system).absolute()] if system else []
    return [user_config_path().parent / "sites", *between, SITES]


def load_site(name: str, base: Path | None = None) -> Site:
    """The profile of a site, by its name or by the path of its file.

    Raises:
        SpecError: there is no such site, or its file is invalid.
    """
    findings = Findings()
    site, _ = read_site(name, base or Path.cwd(), findings)
    if findings.problems or site is None:
        raise SpecError(findings.sorted())
    return site


def read_site(name: str, base: Path, findings: Findings) -> tuple[Site | None, Tree]:
    """As :func:`load_site`, with the origins; problems go into ``findings``."""
    try:
        file = _site_file(name, base)
    except (Undefined, ValueError, RuntimeError) as error:
        findings.problems.append(Problem(str(error), show(name), action="correct the path"))
        return None, Tree()
    if file is None:
        known = site_names()
        near = difflib.get_close_matches(name, known, 1)
        action = f"write {near[0]}" if near else "choose one of these, or name a YAML file"
        problem = Problem("there is no such site", show(name), ", ".join(known), action)
        findings.problems.append(problem)
        return None, Tree()
    shown = str(file)
    try:
        document = parse_yaml(read_text(file, shown), shown)
    except SpecError as error:
        findings.problems += error.problems
        return None, Tree()
    findings.problems += document.problems
    if not isinstance(document.data, dict):
        what = "a site profile must be a mapping"
        findings.problems.append(Problem(what, show(document.data), file=shown, line=1))
        return None, Tree()
    tree = tree_from_document(document, f"site {name}", shown, file.resolve().parent)
    own = Findings()
    expand_paths(Site, tree, own)
    site = check(Site, tree, own)
    findings.problems += own.problems
    return site, tree


def _site_file(name: str, base: Path) -> Path | None:
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(absolute(name, IsPath("site"), base))
    if name.startswith("."):
        return None
    files = [folder / f"{name}.yaml" for folder in _folders()]
    return next((file for file in files if file.is_file()), None)
