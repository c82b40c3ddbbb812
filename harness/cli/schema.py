"""Prints the JSON schema of the job spec, or the doc of one field.

Save the schema to a file and name it in your editor to have specs completed and checked
while you write them.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

from harness.cli.common import add_json, print_json

if TYPE_CHECKING:
    from harness.spec import FieldDoc

HELP = "print the JSON schema of the job spec, or the doc of one field"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "--field", metavar="PATH", help="print the doc of one field, as training.phases.0.epochs"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the schema (always JSON), or one field's doc."""
    if args.field is None:
        from harness.spec import json_schema

        print_json(json_schema())
        return 0
    import dataclasses

    from harness.spec.docs import below, field_doc

    doc = field_doc(args.field)
    if args.json:
        print_json(dataclasses.asdict(doc))
    else:
        print(_text(doc, below(doc.path)))
    return 0


def _text(doc: FieldDoc, inner: list[FieldDoc]) -> str:
    lines = [doc.path, *textwrap.wrap(doc.doc, 78, initial_indent="  ", subsequent_indent="  ")]
    if doc.type != "group":
        lines.append(f"  takes:   {doc.type}")
        lines.append(f"  default: {doc.default}")
    lines.append(f"  resume:  {doc.resume}")
    if doc.so_far:
        lines.append(f"  so far:  {doc.so_far} (other values are not supported yet)")
    if inner:
        lines.append("  fields:")
        lines += [
            f"    {one.path.removeprefix(doc.path).strip('[].'):<20} {one.doc}" for one in inner
        ]
    return "\n".join(lines)
