"""From what was written (spec, -o, user config, site) to one checked spec with its sources."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import Problem, SpecError
from harness.spec.base import show
from harness.spec.config import UserConfig, read_user_config
from harness.spec.expand import expand_strategy, fill_in
from harness.spec.findings import Findings, check
from harness.spec.layers import (
    DEFAULT,
    Origin,
    Tree,
    dotted,
    merge,
    tree_from_document,
)
from harness.spec.migrate import migrate
from harness.spec.models import Spec
from harness.spec.models_site import Site
from harness.spec.overrides import apply_setting, read_overrides, setting_name
from harness.spec.pathtext import expand_paths
from harness.spec.plain import plain
from harness.spec.resume import flat_places
from harness.spec.site import read_site
from harness.spec.support import check_supported
from harness.spec.yaml_read import Where, parse_yaml, read_text


@dataclass(frozen=True)
class Resolved:
    """A checked spec, and where each of its values comes from."""

    spec: Spec
    """The spec, frozen."""
    sources: dict[str, str]
    """Source of every value by dotted path: `spec FILE:LINE`, `-o ...`, `user config
    FILE:LINE`, `site NAME` or `default`."""
    file: Path | None
    """Absolute path of the spec's file; None when it came from Python."""
    user: UserConfig
    """The user's settings."""
    site: Site
    """The profile of the site."""
    origins: dict[str, Origin] = field(default_factory=dict, repr=False, compare=False)
    """Origin (file and line) of every value that does not come from the defaults."""


def load_spec(
    source: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    site: str | None = None,
    user_config: Path | None = None,
    check_files: bool = False,
    without: Collection[Where] = (),
) -> Resolved:
    """Reads, merges and checks a spec.

    Args:
        source: path of a YAML file, or the same as a mapping.
        overrides: ``["training.seed=2"]`` or ``{"training.seed": 2}``; they win over all else.
        site: name or file of a site profile; wins over ``cluster.site``.
        user_config: the user config's file, instead of the one at the usual place.
        check_files: also whether data, backbone and plug-in files are there.
        without: places of the source that are read as if they were not written.

    Raises:
        SpecError: with every problem found, in the order of the file.
    """
    findings = Findings()
    tree, file = _read_source(source, findings)
    tree.discard(without)
    migrate(tree, findings)
    user, user_tree = read_user_config(user_config, findings)
    _apply_overrides(tree, overrides, findings)
    profile, site_tree = _choose_site(tree, site, user_tree, findings)
    tree = merge(tree, _lower_layers(user, user_tree, profile, site_tree))
    fill_in(tree, findings)
    expand_paths(Spec, tree, findings)
    spec = check(Spec, tree, findings)
    if spec is not None:
        check_supported(spec, tree, findings)
        if check_files:
            _check_files(spec, tree, user, findings)
    if findings.problems:
        raise SpecError(findings.sorted())
    assert spec is not None and profile is not None, "no problem was found"
    origins = {where: _origin_of(tree, where) for where in flat_places(spec)}
    return Resolved(
        spec,
        {
            dotted(where) or "": found.source if found else DEFAULT
            for where, found in origins.items()
        },
        file,
        user,
        profile,
        {dotted(where) or "": found for where, found in origins.items() if found},
    )


def _check_files(spec: Spec, tree: Tree, user: UserConfig, findings: Findings) -> None:
    from harness.spec.existence import missing

    found = [(tuple(path.split(".")), problem) for path, problem in missing(spec, user.trust)]
    # A wrong value was replaced to check the rest; it has been named already.
    news = [(where, problem) for where, problem in found if not findings.known(where)]
    for where, problem in news:
        got = f"{problem.file}: {problem.got}" if problem.file else problem.got
        findings.add(where, replace(problem, got=got, file=None), tree.origin(where))


def spec_from_file_resolved(path: str | Path) -> Spec:
    """The spec of a run's own ``spec.yaml``: no user config, no site, nothing filled in.

    Raises:
        SpecError: with every problem found.
    """
    findings = Findings()
    tree, _ = _read_source(Path(path), findings)
    migrate(tree, findings)
    expand_paths(Spec, tree, findings)
    spec = check(Spec, tree, findings)
    if findings.problems or spec is None:
        raise SpecError(findings.sorted())
    return spec


def _read_source(
    source: str | Path | Mapping[str, Any], findings: Findings
) -> tuple[Tree, Path | None]:
    if isinstance(source, Mapping):
        tree = Tree()
        tree.data = plain(source, (), findings)
        tree.mark((), tree.data, Origin("spec", Path.cwd()))
        return tree, None
    shown = os.fspath(source)
    path = Path(shown).expanduser()
    document = parse_yaml(read_text(path, shown), shown)
    if document.data is None:
        action = "write a spec, or start from one under jobs/"
        raise SpecError(Problem("the file is empty", action=action, file=shown))
    if not isinstance(document.data, dict):
        raise SpecError(
            Problem(
                "the spec must be a mapping of fields",
                got=show(document.data),
                allowed="lines of the form field: value",
                action="check that this is the file you meant",
                file=shown,
                line=1,
            )
        )
    findings.problems += document.problems
    file = path.absolute()
    return tree_from_document(document, "spec", shown, file.parent), file


def _apply_overrides(
    tree: Tree, overrides: Sequence[str] | Mapping[str, Any], findings: Findings
) -> None:
    settings = read_overrides(Spec, overrides, findings)
    inside = [s for s in settings if setting_name(s).startswith("training.phases.")]
    # A position in the phases means one of the expanded list, so the strategy comes before.
    for setting in settings:
        if setting not in inside:
            apply_setting(Spec, tree, setting, findings)
    expand_strategy(tree, findings)
    for setting in inside:
        apply_setting(Spec, tree, setting, findings)


def _choose_site(
    tree: Tree, given: str | None, user_tree: Tree, findings: Findings
) -> tuple[Site | None, Tree]:
    """Precedence: --site, -o and the spec, HARNESS_SITE, the user config, `generic`."""
    where: Where = ("cluster", "site")
    if given is not None:
        _put_cluster(tree, "site", given, Origin("--site", Path.cwd()))
    cluster = tree.data.get("cluster")
    written = cluster.get("site") if isinstance(cluster, dict) else None
    name, origin = written, tree.origin(where)
    if written is None:
        name, origin = _usual_site(user_tree)
    if not isinstance(name, str):
        name, origin = "generic", None
    own = Findings()
    profile, site_tree = read_site(name, origin.base if origin else Path.cwd(), own)
    for problem in own.problems:
        if problem.file is None:
            findings.add(where, problem, origin)
        else:
            findings.problems.append(problem)
    return profile, site_tree


def _usual_site(user_tree: Tree) -> tuple[Any, Origin | None]:
    """The site where neither the command line nor the spec names one."""
    named = os.environ.get("HARNESS_SITE")
    if named:
        label = "HARNESS_SITE"
        return named, Origin(label, Path.cwd(), option=f"{label}={named}")
    return user_tree.data.get("site"), user_tree.origin(("site",))


def _put_cluster(tree: Tree, key: str, value: Any, origin: Origin) -> None:
    if isinstance(tree.data.get("cluster", {}), dict | None):
        tree.put(("cluster", key), value, origin)


def _lower_layers(user: UserConfig, user_tree: Tree, site: Site | None, site_tree: Tree) -> Tree:
    """The site's values for `cluster`, with the user's laid over them."""
    lower = Tree()
    if site is None:
        return lower
    # Those that were found wrong are not in the profile any more, so they are named once.
    values = site.cluster.model_dump(mode="json", include=site.cluster.model_fields_set)
    given = [(key, value, site_tree.origin(("cluster", key))) for key, value in values.items()]
    name, origin = _usual_site(user_tree)
    if isinstance(name, str):
        given.append(("site", name, origin))
    account = user.accounts.get(site.name)
    if account is not None:
        given.append(("account", account, user_tree.origin(("accounts", site.name))))
    for key, value, origin in given:
        assert origin is not None, "what was written has an origin"
        lower.put(("cluster", key), value, origin)
    lower.origins |= {
        place: origin
        for place, origin in site_tree.origins.items()
        if len(place) == 3 and place[:2] == ("cluster", "sbatch")
    }
    return lower


def _origin_of(tree: Tree, where: Where) -> Origin | None:
    """The origin of a leaf, or None when nobody wrote it."""
    node: Any = tree.data
    for key in where:
        if isinstance(node, dict):
            if key not in node:
                return None
            node = node[key]
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            break  # written as a scalar that stands for several fields
    found = tree.origin(where)
    return None if found is None or found.label == DEFAULT else found
