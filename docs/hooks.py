"""Fills the pages that are made from the code: the spec's fields, the verbs
and what else would be written twice.

A page says where with a line ``<!-- generated: NAME -->``.  tests/unit/test_house_docs.py calls
the same functions, so that what it finds documented is what the site shows.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.cli.main import VERBS, build_parser
from harness.errors import ExitCode
from harness.spec.reference import site_reference_markdown, spec_reference_markdown

ROOT = Path(__file__).resolve().parent.parent

RESUME = {
    "free": "may change when a run is continued",
    "extend": "may grow when a run is continued",
    "never": "fixed for a run; `harness fork` starts another with it changed",
}


def verbs_page() -> str:
    """Markdown of every verb: what it is for, how it is called, its arguments."""
    actions = build_parser()._subparsers._group_actions  # type: ignore[union-attr]
    choices = actions[0].choices
    assert choices is not None, "the parser has verbs"
    return "\n\n".join(_verb(name, choices[name]) for name in VERBS)


def _verb(name: str, parser: argparse.ArgumentParser) -> str:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    lines = [f"## {name}", (parser.description or "").strip(), f"```text\n{usage}\n```"]
    shown = [a for a in parser._actions if a.help is not argparse.SUPPRESS and a.dest != "help"]
    rows = [f"| {_argument(a)} | {_cell(_help(a))} |" for a in shown]
    if rows:
        lines.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    return "\n\n".join(lines)


def _help(action: argparse.Action) -> str:
    # The same %(default)s and friends that --help fills in.
    text = action.help or ""
    return text % {**vars(action), "prog": "harness"} if "%" in text else text


def _argument(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    takes = action.nargs != 0 and action.option_strings
    value = f" {action.metavar or action.dest.upper()}" if takes else ""
    return f"`{names}{value}`"


def _cell(text: object) -> str:
    words = html.escape(" ".join(str(text).split()), quote=False)
    return words.replace("|", "\\|")


def plugin_example() -> str:
    """The example of every kind of plug-in, as it is in jobs/."""
    return "```python\n" + (ROOT / "jobs" / "plugins_example.py").read_text() + "```"


def resume_page() -> str:
    """Markdown of what the resume classes mean."""
    return "\n".join(f"- **{name}**: {meaning}." for name, meaning in RESUME.items())


def exit_codes_page() -> str:
    """Markdown of the exit codes and the errors behind them."""
    from harness import errors

    rows = ["| code | name | error | when |", "|---|---|---|---|"]
    for code in ExitCode:
        found = [
            value
            for value in vars(errors).values()
            if isinstance(value, type)
            and issubclass(value, errors.HarnessError)
            and value not in (errors.HarnessError, errors.SpecError)
            and value.exit_code == code
        ]
        name = f"`{found[0].__name__}`" if found else ""
        when = found[0].__doc__.split(";")[0] if found and found[0].__doc__ else "All went well."
        rows.append(f"| {code.value} | {code.name.lower()} | {name} | {_cell(when)} |")
    return "\n".join(rows)


def site_profiles_page() -> str:
    """Markdown of the site profiles that come with the package."""
    from harness.spec.site import SITES, load_site

    names = sorted(file.stem for file in SITES.glob("*.yaml"))
    rows = [
        f"| `{name}` | {_cell(load_site(str(SITES / f'{name}.yaml')).description)} |"
        for name in names
    ]
    return "\n".join(["| site | what it is |", "|---|---|", *rows])


GENERATED: dict[str, Callable[[], str]] = {
    "verbs": verbs_page,
    "spec": spec_reference_markdown,
    "sites": site_reference_markdown,
    "site profiles": site_profiles_page,
    "plugin example": plugin_example,
    "resume": resume_page,
    "exit codes": exit_codes_page,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs's hook: puts each generated part where the page asks for it."""
    for name, make in GENERATED.items():
        marker = f"<!-- generated: {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    if "<!-- generated:" in markdown:
        raise ValueError("a page asks for a generated part that hooks.py does not know")
    return markdown
