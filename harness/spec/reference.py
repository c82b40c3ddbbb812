"""The reference of the spec and of site profiles for the docs site, made from the models."""

from __future__ import annotations

from harness.spec.docs import REQUIRED, FieldDoc, field_docs
from harness.spec.models_site import Site

_RESUME = {
    "free": "may change on resume",
    "extend": "may be changed on resume in the last phase",
    "never": "fixed for the life of a run",
}
_INTRO = """# The spec, field by field

Made from the models in `harness/spec`; `harness schema --field PATH` prints the same for one
field, and `harness schema` the JSON schema that editors read.

Every field may be given in the file or with `-o PATH=VALUE`; a position in a list is a number
(`-o training.phases.0.epochs=3`). **Resume** says whether a field may change when a run is
continued: *free* may, *extend* may in the last phase, *never* needs `harness fork`. Where a
field says *so far*, other values are refused with "not supported yet".
"""


def spec_reference_markdown() -> str:
    """A Markdown page with every field: type, default, doc, resume class, what is supported."""
    parts = [_INTRO]
    for doc in field_docs():
        if "." not in doc.path:
            parts.append(f"## {doc.path}\n\n{_own(doc)}")
        elif doc.type != "group":
            parts.append(_entry(doc))
        else:
            parts.append(f"### {doc.path}\n\n{doc.doc}")
    return "\n\n".join(parts) + "\n"


def site_reference_markdown() -> str:
    """A Markdown table of every field of a site profile: type, default, doc.

    Those of `cluster` are the spec's, and documented there.
    """
    rows = [
        f"| `{doc.path}` | {_cell(doc.type)} | {_default(doc)} | {_cell(doc.doc)} |"
        for doc in field_docs(Site)
        if not doc.path.startswith("cluster.")
    ]
    return "\n".join(["| field | takes | default | meaning |", "|---|---|---|---|", *rows])


def _own(doc: FieldDoc) -> str:
    return doc.doc if doc.type == "group" else f"{doc.doc}\n\n{_facts(doc)}"


def _entry(doc: FieldDoc) -> str:
    return f"### {doc.path}\n\n{doc.doc}\n\n{_facts(doc)}"


def _facts(doc: FieldDoc) -> str:
    lines = [
        "| | |",
        "|---|---|",
        f"| takes | {_cell(doc.type)} |",
        f"| default | {_default(doc)} |",
        f"| resume | *{doc.resume}*: {_RESUME[doc.resume]} |",
    ]
    if doc.so_far:
        lines.append(f"| so far | {_cell(doc.so_far)} |")
    return "\n".join(lines)


def _default(doc: FieldDoc) -> str:
    if not doc.default:
        return ""
    return "**required**" if doc.default == REQUIRED else _cell(f"`{doc.default}`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
