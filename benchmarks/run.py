"""Runs the benches, prints one table and writes build/bench.json.

    python benchmarks/run.py [--only P10] [--out build/bench.json]

A bench is a module ``benchmarks/pNN_NAME.py`` with ``rows() -> Iterator[Row]``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from benchmarks.rows import Row  # noqa: E402 - needs the path of this checkout


def benches() -> dict[str, str]:
    """Bench ids (``P10``) to module names, in the order of their numbers."""
    found = {}
    for path in FOLDER.glob("p*.py"):
        match = re.fullmatch(r"p(\d+)_\w+", path.stem)
        if match:
            found[int(match[1])] = f"benchmarks.{path.stem}"
    return {f"P{number}": found[number] for number in sorted(found)}


def table(rows: list[Row]) -> str:
    """The rows as text, speed as a ratio only."""
    head = ("id", "work", "peer", "ratio", "target", "ok", "spread", "note")
    body = [
        (
            row.id,
            row.work,
            row.peer,
            f"{row.ratio:.3g}",
            f"{'>=' if row.better == 'higher' else '<='} {row.target:g}",
            "yes" if row.ok else "NO",
            f"{row.spread:.0%}",
            row.note,
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *body]
    )


def main(argv: list[str] | None = None) -> int:
    """Reads the command line; 0 when every row reaches its target, 1 when one does not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="ids of benches, separated by commas (P10 or P5,P10)")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    args = parser.parse_args(argv)
    known = benches()
    wanted = args.only.upper().split(",") if args.only else list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(known)}")
    rows: list[Row] = []
    for name in wanted:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        rows += importlib.import_module(known[name]).rows()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
    print(table(rows))
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
