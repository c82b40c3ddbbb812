"""Arguments and output that several verbs share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.spec import Resolved
    from harness.spec.models_site import Site


def add_spec_arguments(parser: argparse.ArgumentParser) -> None:
    """SPEC, ``-o`` and ``--site``."""
    parser.add_argument("spec", metavar="SPEC", help="job spec, a YAML file")
    add_override(parser, "field", "training.phases.0.epochs=3")
    parser.add_argument(
        "--site", metavar="SITE", help="site profile: its name, or the path of a YAML file"
    )


def add_override(parser: argparse.ArgumentParser, what: str, example: str) -> None:
    """``-o``, which sets one of ``what``."""
    parser.add_argument(
        "-o",
        "--override",
        dest="overrides",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help=f"set one {what}, as -o {example}; may be given again",
    )


def spec_from_arguments(args: argparse.Namespace, *, check_files: bool = False) -> Resolved:
    """The checked spec of the arguments that :func:`add_spec_arguments` adds.

    Args:
        check_files: also whether data, backbone and plug-in files are there.

    Raises:
        SpecError: with every problem of the spec.
    """
    from harness.spec import load_spec

    return load_spec(args.spec, overrides=args.overrides, site=args.site, check_files=check_files)


def usual_site(named: str | None) -> Site:
    """The profile of ``--site``, else that of HARNESS_SITE, of the user config, ``generic``.

    Raises:
        SpecError: there is no such site, or a profile or the user config is invalid.
    """
    import os

    from harness.spec import load_user_config
    from harness.spec.site import load_site

    usual = named or os.environ.get("HARNESS_SITE") or load_user_config().site
    return load_site(usual or "generic")


def is_spec(path: Path) -> bool:
    """Whether an argument that may name data or a spec is a spec, by its ending."""
    return path.suffix.lower() in (".yaml", ".yml") and not path.is_dir()


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def print_json(value: Any) -> None:
    """Prints plain data as JSON; paths become texts."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not plain data")


def add_runs_root(parser: argparse.ArgumentParser) -> None:
    """``--runs-root``."""
    parser.add_argument(
        "--runs-root",
        metavar="DIR",
        type=Path,
        help="folder that holds the runs (default: $HARNESS_RUNS_ROOT, then runs_root of the "
        "user config, then ./runs)",
    )
