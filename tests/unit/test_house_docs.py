"""The docs say what there is: every verb and field, live links, valid examples."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from harness.cli.main import VERBS, build_parser
from harness.errors import ExitCode
from harness.plugins import KINDS
from harness.spec import load_spec
from harness.spec.docs import field_docs
from harness.spec.models import Spec
from harness.spec.shape import all_paths

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md"])


def load_hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load_hooks()


def verb_parsers() -> dict:
    return build_parser()._subparsers._group_actions[0].choices


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_argument_is_documented(verb: str) -> None:
    parser = verb_parsers()[verb]
    assert len(parser.description.strip()) > 20
    silent = [action.dest for action in parser._actions if not (action.help or "").strip()]
    assert not silent
    section = hooks.verbs_page().split(f"## {verb}\n")[1].split("\n## ")[0]
    for action in parser._actions:
        for option in action.option_strings:
            assert option in section or action.dest == "help"


def test_the_page_of_verbs_holds_every_verb_once() -> None:
    assert re.findall(r"^## (\S+)$", hooks.verbs_page(), re.MULTILINE) == list(VERBS)


def test_every_field_of_the_spec_is_documented() -> None:
    docs = {doc.path: doc for doc in field_docs()}
    assert set(all_paths(Spec)) <= set(docs)
    assert len(docs) > 100
    silent = [path for path, doc in docs.items() if not doc.doc.strip().endswith((".", ")"))]
    assert not silent


def test_the_fields_are_those_that_the_models_have() -> None:
    def top(model: type[BaseModel]) -> set[str]:
        return {field.alias or name for name, field in model.model_fields.items()}

    assert {doc.path.split(".")[0] for doc in field_docs()} == top(Spec)


def test_every_kind_of_plugin_is_documented_and_shown() -> None:
    page = (DOCS / "plugins.md").read_text()
    example = (ROOT / "jobs" / "plugins_example.py").read_text()
    for kind in KINDS:
        assert f"| `{kind}` |" in page
        assert f'@register("{kind}", ' in example


def test_every_exit_code_is_documented() -> None:
    page = hooks.exit_codes_page()
    for code in ExitCode:
        assert f"| {code.value} |" in page


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [
        link
        for link in links(page)
        if not link.startswith(("https://", "#"))
        and not (page.parent / link.split("#")[0]).exists()
    ]
    assert not dead


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    lost = [page.name for page in DOCS.glob("*.md") if f": {page.name}\n" not in navigation]
    assert not lost


def specs() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
        found += [(page.name, block) for block in blocks if "harness_spec:" in block]
    found += [(path.name, path.read_text()) for path in sorted((ROOT / "jobs").glob("*.yaml"))]
    return found


@pytest.mark.parametrize(("name", "text"), specs(), ids=lambda value: value[:20])
def test_specs_in_docs_and_jobs_are_valid(name: str, text: str, tmp_path: Path) -> None:
    file = (ROOT / "jobs" if name.endswith(".yaml") else tmp_path) / name
    if not file.exists():
        file.write_text(text)
    assert load_spec(file).spec.name


def test_targets_named_in_the_docs_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"demo", "test"} <= named <= targets


def test_verbs_named_in_the_docs_exist() -> None:
    named = {
        verb
        for page in PAGES
        for verb in re.findall(r"(?:`|\$ )harness ([a-z]+)", page.read_text())
    }
    assert "run" in named
    assert named <= set(VERBS) | {"VERB"}


def test_make_help_lists_every_public_target() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert {"demo", "test", "lint", "docs", "bench", "test-oldest", "help", "clean"} <= listed


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "spec-reference.html").read_text()
    assert "training.batch_size" in page
    assert "<!-- generated" not in page
