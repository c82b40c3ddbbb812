"""The house rules for files: their size, and what must not stand in them."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 40

# Written in pieces, so that this file does not hold what it looks for.
HOSTS = (
    "pypi" + r"\.org",
    "python" + r"hosted",
    "npm" + r"js\.",
    "deb" + r"\.debian",
    "ghcr" + r"\.io",
)
PLACES = ("/ro" + "ot/", "/ho" + r"me/\w", "/wo" + "rk/", "/op" + "t/pypi", "/Use" + r"rs/\w")


def tracked(pattern: str = "*") -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", pattern],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def modules() -> list[Path]:
    found = [path for path in tracked("harness/*") if path.suffix == ".py"]
    assert len(found) > 20, "the package's files were not found"
    return found


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the last, and the signature."""
    last = function.end_lineno
    assert last is not None, "ast gives the end of every function"
    documented = ast.get_docstring(function) is not None
    docstring = function.body[0]
    prose = (docstring.end_lineno or 0) - docstring.lineno + 1 if documented else 0
    return last - function.lineno + 1 - prose


def test_files_are_short() -> None:
    sizes = {p: len(p.read_text().splitlines()) for p in [*modules(), *tracked("jobs/*.py")]}
    long = {str(p.relative_to(ROOT)): n for p, n in sizes.items() if n >= LINES_OF_A_FILE}
    assert not long, "split these files into things with names of their own"


def test_functions_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length(node)} lines"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and length(node) >= LINES_OF_A_FUNCTION
    ]
    assert not long, "split these functions"


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(p) for p in modules() if ast.get_docstring(ast.parse(p.read_text())) is None]
    assert not silent


@pytest.mark.parametrize("words", [HOSTS, PLACES], ids=["registry hosts", "machine paths"])
def test_no_file_names_a_registry_or_somebodys_machine(words: tuple[str, ...]) -> None:
    pattern = re.compile("|".join(words))
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        lines = text.splitlines()
        hits = [
            f"{path.relative_to(ROOT)}:{n}" for n, x in enumerate(lines, 1) if pattern.search(x)
        ]
        found += hits
    assert not found


def test_the_search_finds_what_it_looks_for() -> None:
    assert re.search("|".join(HOSTS), "see https://py" + "pi.org/simple")
    assert re.search("|".join(PLACES), "/ho" + "me/somebody/data")
