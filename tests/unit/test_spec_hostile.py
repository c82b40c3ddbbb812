"""Specs that were written to do harm end in a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from spec_helpers import MINIMAL, MINIMAL_YAML, changed, paths, problems, write

from harness.errors import Problem, SpecError
from harness.spec import load_spec
from harness.spec.yaml_read import parse_yaml


def test_a_flood_of_problems_ends(tmp_path: Path) -> None:
    text = MINIMAL_YAML + "".join(f"k{i}: {i}\n" for i in range(3000))
    found = problems(write(tmp_path, text))
    assert 100 <= len(found) <= 300


def _problems_of(call: Callable[[], object]) -> tuple[Problem, ...]:
    """The problems that a call ends in; any other error goes through."""
    try:
        call()
    except SpecError as error:
        assert error.problems, "an error without a problem"  # noqa: PT017
        return error.problems
    return ()


PIECES = st.sampled_from(
    ["name", "training", ":", " ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&a", "*a", "!!x",
     "'", '"', "|", ">", "#", "%", "?", "\t", "\r", "\u2028", "\ufeff", "é", "1", "null", "<<",
     "---", "...", "\\", "@", "`", "data", "train", "phases", "epochs", "$(id)", ";", "../"]
)  # fmt: skip


@settings(max_examples=150)
@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=40).map("".join)))
def test_hostile_text_ends_in_a_spec_error(text: str) -> None:
    for source in (text, MINIMAL_YAML + text):
        found = _problems_of(lambda source=source: parse_yaml(source, "f"))
        assert all(problem.file == "f" for problem in found)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


PLACES = [
    "name", "about", "task", "backbone", "data", "head", "training", "adaptation", "plugins",
    "logging", "sweep", "checkpoint", "access", "cluster",
]  # fmt: skip


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(PLACES), PLAIN, max_size=4))
def test_hostile_values_end_in_a_spec_error(values: dict[str, Any]) -> None:
    for problem in _problems_of(lambda: load_spec({**MINIMAL, **values})):
        assert str(problem).isprintable()
        assert problem.what


@settings(max_examples=100)
@given(
    st.sampled_from(
        ["training", "training.phases", "training.phases.0", "data", "data.augment", "head.plugin",
         "cluster.sbatch", "backbone", "checkpoint.best", "training.optimizer", "sweep", "plugins"]
    ),
    st.one_of(st.text(max_size=6), st.sampled_from(["0", "name", "epochs", "1", "plugin", "best"])),
    PLAIN,
)  # fmt: skip
def test_hostile_overrides_end_in_a_spec_error(around: str, key: str, value: Any) -> None:
    for overrides in ({f"{around}.{key}": value}, [f"{around}.{key}={value}"]):
        for problem in _problems_of(lambda o=overrides: load_spec(MINIMAL, overrides=o)):
            assert str(problem).isprintable()


def test_nothing_of_a_hostile_spec_is_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    text = MINIMAL_YAML + f"about:\n  licence: !!python/object/apply:os.system ['touch {canary}']\n"
    assert problems(write(tmp_path, text))
    for name in (f"$(touch {canary})", f"a;touch {canary}", f"`touch {canary}`", "a\nb"):
        assert "name" in paths(problems(changed(name=name)))
    assert not canary.exists()
