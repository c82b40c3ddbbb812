"""Writes the two recipes of the container image from the one list of steps.

``python containers/render.py`` writes ``containers/Dockerfile`` and ``containers/harness.def``;
with ``--check`` it writes nothing and fails if one of them is not what the list renders.
"""

from __future__ import annotations

import argparse
import ast
import shlex
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STEPS, DOCKERFILE, DEFINITION = HERE / "steps.yaml", HERE / "Dockerfile", HERE / "harness.def"
CONTEXT = "/context"
"""Where the build finds the checkout, in the image; removed by the last step."""
VERSION = "org.opencontainers.image.version"
HEADER = "Written by containers/render.py from containers/steps.yaml: change it there."


@dataclass(frozen=True)
class Argument:
    """A value that a build may set."""

    name: str
    value: str
    why: str


@dataclass(frozen=True)
class Step:
    """Shell commands that belong together, and what they are for."""

    why: str
    run: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """The whole image."""

    arguments: tuple[Argument, ...]
    labels: dict[str, str]
    environment: dict[str, str]
    context: tuple[str, ...]
    steps: tuple[Step, ...]


def read_recipe(file: Path = STEPS) -> Recipe:
    """The list of steps, with the version of the package among the labels."""
    data: dict[str, Any] = YAML(typ="safe").load(file)
    return Recipe(
        tuple(Argument(**argument) for argument in data["arguments"]),
        {**data["labels"], VERSION: package_version()},
        dict(data["environment"]),
        tuple(data["context"]),
        tuple(Step(step["why"], tuple(step["run"])) for step in data["steps"]),
    )


def package_version() -> str:
    """The version that the package's own module states; nothing is imported for it."""
    tree = ast.parse((ROOT / "harness" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise ValueError("harness/__init__.py states no __version__")


def dockerfile(recipe: Recipe) -> str:
    """The text of the Dockerfile, for docker, podman, buildah and ch-image.

    It uses no BuildKit extension, and each step is a layer of its own.
    """
    base, *others = recipe.arguments
    lines = [f"# {HEADER}", *_docker_argument(base), f"FROM ${{{base.name}}}"]
    for argument in others:
        lines += _docker_argument(argument)
    lines += ["", *(f"LABEL {key}={_double(text)}" for key, text in recipe.labels.items())]
    lines += [f"ENV {name}={_double(text)}" for name, text in recipe.environment.items()]
    lines.append("")
    # A file goes into a folder, a folder's content into one of its name.
    files = [name for name in recipe.context if (ROOT / name).is_file()]
    lines.append(f"COPY {' '.join(files)} {CONTEXT}/")
    lines += [f"COPY {name} {CONTEXT}/{name}" for name in recipe.context if name not in files]
    for step in recipe.steps:
        commands = [_continued(command) for command in step.run]
        lines += ["", *_comment(step.why), "RUN " + " \\\n    && ".join(commands)]
    return "\n".join(lines) + "\n"


def _docker_argument(argument: Argument) -> list[str]:
    return ["", *_comment(argument.why), f"ARG {argument.name}={_double(argument.value)}"]


def definition(recipe: Recipe) -> str:
    """The text of the Apptainer definition file; build arguments need Apptainer 1.2."""
    base, *others = recipe.arguments
    lines = [f"# {HEADER}"]
    for argument in recipe.arguments:
        lines += _comment(f"{argument.name}: {argument.why}")
    lines += ["", "Bootstrap: docker", f"From: {{{{ {base.name} }}}}", "", "%arguments"]
    lines += _indented([f"{one.name}={one.value}" for one in recipe.arguments])
    lines += ["", "%labels"]
    lines += _indented([f"{key} {text}" for key, text in recipe.labels.items()])
    exports = [f"export {name}={shlex.quote(text)}" for name, text in recipe.environment.items()]
    lines += ["", "%environment", *_indented(exports)]
    lines += ["", "%files"]
    lines += _indented([f"{name} {CONTEXT}/{name}" for name in recipe.context])
    lines += ["", "%post", *_indented(["set -eu", *exports])]
    lines += _indented([f"export {one.name}='{{{{ {one.name} }}}}'" for one in others])
    for step in recipe.steps:
        body = [part for command in step.run for part in _continued(command).split("\n")]
        lines += ["", *_indented([*_comment(step.why), *body])]
    return "\n".join(lines) + "\n"


def _double(text: str) -> str:
    """In double quotes, as Dockerfiles read it; expands nothing."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _continued(command: str) -> str:
    """A long command over several lines, broken only at spaces outside of quotes."""
    parts, line, quote = [], "", ""
    for word in command.split(" "):
        if line and not quote and len(line) + len(word) > 84:
            parts.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
        for letter in word:
            quote = letter if not quote and letter in "'\"" else "" if letter == quote else quote
    return " \\\n        ".join([*parts, line])


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def main() -> int:
    """Writes or checks the recipes; 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    check = parser.parse_args().check
    recipe = read_recipe()
    different = []
    for file, text in ((DOCKERFILE, dockerfile(recipe)), (DEFINITION, definition(recipe))):
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            different.append(file.name)
            if not check:
                file.write_text(text, encoding="utf-8")
    print(f"{'differ' if check else 'written'}: {', '.join(different) or 'none'}")
    return int(check and bool(different))


if __name__ == "__main__":
    sys.exit(main())
