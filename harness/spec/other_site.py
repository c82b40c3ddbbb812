"""A run's own spec at another site: what its old site gave goes, so that the new one's holds.

The spec that a run keeps has every value written out, those of its site among them, and what is
written in a spec wins over any site.  At another cluster its partition or its account would be
asked for that only the old one has.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from harness.errors import SpecError, UsageError
from harness.spec.base import IsPath
from harness.spec.config import load_user_config
from harness.spec.dump import flow
from harness.spec.findings import Findings
from harness.spec.layers import dotted
from harness.spec.load import Resolved, load_spec, spec_from_file_resolved
from harness.spec.models import Spec
from harness.spec.models_cluster import Cluster
from harness.spec.overrides import read_overrides
from harness.spec.pathtext import Undefined, absolute
from harness.spec.site import load_site
from harness.spec.yaml_read import Where

_NONE = object()
Values = dict[Where, Any]
"""Values of `cluster`, but its site, by place; an option of `cluster.sbatch` has its own place."""


def load_at_site(
    file: Path, overrides: Sequence[str], site: str | None
) -> tuple[Resolved, tuple[str, ...]]:
    """The spec of a run with overrides, at its own site or at another one.

    At another site those values of ``cluster`` are left out that are the ones of the old site, of
    the user's account there, or of nobody (the defaults).

    Args:
        file: the run's ``spec.yaml``.
        site: another site's name or file; None is what the overrides or the spec say.

    Returns:
        The spec, and in words which values have changed and which were kept.

    Raises:
        SpecError: with every problem of the spec.
        UsageError: the old site's profile cannot be read any more, so that nobody knows which of
            the values were its own.
    """
    saved = spec_from_file_resolved(file)
    asked, given = _asked(overrides, site)
    if asked in (None, saved.cluster.site):
        return load_spec(file, overrides=overrides, site=site), ()
    values = _values(saved.cluster.model_dump(mode="json"))
    own = {place: value for place, value in values.items() if not _is_given(place, given)}
    old = _of_the_old_site(saved, own)
    dropped = {place: value for place, value in own.items() if _same(value, old.get(place, _NONE))}
    resolved = load_spec(file, overrides=overrides, site=site, without=dropped)
    return resolved, (
        *_changes(saved.cluster.site, dropped, old, resolved),
        *_kept({place: value for place, value in own.items() if place not in dropped}),
    )


def _asked(overrides: Sequence[str], site: str | None) -> tuple[str | None, Collection[Where]]:
    """The site that the command line names, as a saved spec has it, and the places it sets."""
    settings = read_overrides(Spec, overrides, Findings())
    named = [(value, origin.base) for where, value, origin in settings if where == _SITE]
    text, base = (site, Path.cwd()) if site is not None else (named or [(None, Path.cwd())])[-1]
    if not isinstance(text, str):
        return None, ()
    # What is wrong with it is said, with its place, when the spec is loaded.
    with contextlib.suppress(Undefined, ValueError, RuntimeError):
        text = absolute(text, IsPath("site"), base)
    return text, [where for where, _value, _origin in settings]


_SITE: Where = ("cluster", "site")
_SBATCH: Where = ("cluster", "sbatch")


def _values(cluster: dict[str, Any]) -> Values:
    options = cluster.get("sbatch") or {}
    fields = {("cluster", k): v for k, v in cluster.items() if k not in ("site", "sbatch")}
    return {**fields, **{(*_SBATCH, name): value for name, value in options.items()}}


def _is_given(place: Where, given: Collection[Where]) -> bool:
    return any(place[: len(where)] == where for where in given)


def _of_the_old_site(saved: Spec, own: Values) -> Values:
    """What `cluster` would be with the old site alone."""
    defaults = _values(Cluster().model_dump(mode="json"))
    try:
        site = load_site(saved.cluster.site)
    except SpecError as error:
        unsure = {p: v for p, v in own.items() if not _same(v, defaults.get(p, _NONE))}
        if unsure:
            raise _unknown(saved, unsure, error) from error
        return defaults
    given = site.cluster.model_dump(mode="json", include=site.cluster.model_fields_set)
    account = load_user_config().accounts.get(site.name)
    if account is not None:
        given["account"] = account
    return {**defaults, **_values(given)}


def _unknown(saved: Spec, unsure: Values, error: SpecError) -> UsageError:
    flags = " ".join(f"-o {shlex.quote(_setting(place, value))}" for place, value in unsure.items())
    return UsageError(
        f"the profile of site {saved.cluster.site}, which the run was at, cannot be read any more: "
        "which of the run's values were that site's cannot be told",
        got=error.problems[0].what,
        action=f"say with -o what shall hold at the new site; now it is {flags}",
    )


def _setting(place: Where, value: Any) -> str:
    return f"{dotted(place)}={flow(value)}"


def _same(one: Any, other: Any) -> bool:
    # In Python 1 and true are equal.
    return other is not _NONE and json.dumps(one) == json.dumps(other)


def _changes(site: str, dropped: Values, old: Values, resolved: Resolved) -> list[str]:
    now = _values(resolved.spec.cluster.model_dump(mode="json"))
    defaults = _values(Cluster().model_dump(mode="json"))
    told = []
    for place, value in dropped.items():
        path = dotted(place) or ""
        if _same(value, now.get(place, _NONE)):
            continue
        said = "was not given" if _same(value, defaults.get(place, _NONE)) else "was dropped"
        before = "" if said == "was not given" else f"{flow(value)} of site {site} "
        source = resolved.sources.get(path, "default")
        after = f"{flow(now[place])} ({source})" if place in now else "left out"
        told.append(f"{path}: {before}{said}, now {after}")
    return told


def _kept(kept: Values) -> list[str]:
    shown = ", ".join(_setting(place, value) for place, value in kept.items())
    return [f"kept, as the run's own: {shown}"] if shown else []
