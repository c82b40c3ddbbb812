"""Accounts, SLURM's own refusals and the result of the checks before a submission."""

from __future__ import annotations

import subprocess

import pytest
from preflight_helpers import asked, facts, node, report

from harness.errors import EnvironmentNotAble, Problem, SpecError, StorageError
from harness.launch.preflight import files_of_the_jobs
from harness.launch.preflight_account import check_account
from harness.launch.preflight_partition import Fit, check_partitions
from harness.launch.preflight_report import Preflight, Report
from harness.launch.preflight_test_only import check_test_only
from harness.launch.request import Request

# ---- accounts

ROWS = [
    "lab|big|lab||normal,long|normal",
    "lab|big|grant|long|normal|normal",
    "lab|other|secret||normal|normal",
]


@pytest.mark.parametrize(
    ("rows", "changes", "wanted"),
    [
        (ROWS, {"account": "lab", "qos": "long"}, None),
        (ROWS, {}, None),
        (ROWS, {"account": "secret"}, ("cluster.account", "grant, lab")),
        (ROWS, {"account": "lbb"}, ("cluster.account", "grant, lab")),
        (ROWS, {"account": "grant"}, ("cluster.account", "lab")),
        (ROWS, {"account": "grant", "partition": "long"}, None),
        (ROWS, {"account": "grant", "partition": "long", "qos": "long"}, ("cluster.qos", "normal")),
        ([], {}, ("cluster.account", None)),
        (["|big|lab||normal|normal"], {}, ("cluster.account", "lab")),
        (["lab|big|lab|||"], {"qos": "any"}, None),
    ],
)
def test_accounts(
    rows: list[str], changes: dict[str, object], wanted: tuple[str, str] | None
) -> None:
    own, of, request = report(), facts(node("g1")), asked(**changes)
    parts, _ = check_partitions(own, request, of)
    answer = [row.split("|") for row in rows]
    check_account(own, request, of, parts, answer, lambda: "not asked")
    found = [(problem.path, problem.allowed) for problem in own.wrong]
    assert found == ([] if wanted is None else [wanted])


def test_a_qos_that_goes_with_another_account_is_told_so() -> None:
    own, of = report(), facts(node("g1"))
    request = asked(account="grant", qos="long", partition="long")
    parts, _ = check_partitions(own, request, of)
    check_account(own, request, of, parts, [r.split("|") for r in ROWS], lambda: "not asked")
    assert own.wrong[0].action == "write one of these, or use account lab"


# ---- sbatch --test-only


def refused(text: str, waits: bool = False, before: str | None = None) -> Report:
    own = report()
    if before is not None:
        own.add(before, "found by another check")
    check_test_only(own, subprocess.CompletedProcess(["sbatch"], 1, "", text), Fit(True, waits))
    return own


REFUSALS = {
    "Invalid account or account/partition combination specified": "cluster.account",
    "Invalid qos specification": "cluster.qos",
    "Invalid partition name specified": "cluster.partition",
    "No partition specified or system default partition": "cluster.partition",
    "User's group not permitted to use this partition": "cluster.partition",
    "Required partition not available (inactive or drain)": "cluster.partition",
    "Invalid feature specification": "cluster.constraint",
    "Requested time limit is invalid (missing or exceeds some limit)": "cluster.time",
    "Invalid job array specification": "cluster.max_attempts",
    "Requested node configuration is not available": "cluster",
}
ERRORS = {
    "sbatch: error: Invalid generic resource (gres) specification": "cluster.gpus_per_node",
    "sbatch: unrecognized option '--odd=3'\nTry \"sbatch --help\" for more": "cluster.sbatch.odd",
    "Invalid time: xx\nsbatch: error: Invalid --begin specification": "cluster.sbatch.begin",
    "sbatch: error: Invalid --time specification": "cluster.time",
    "sbatch: error: You must name a project\nallocation failure: Unspecified error": None,
}


@pytest.mark.parametrize(
    ("text", "path"),
    [(f"allocation failure: {text}", path) for text, path in REFUSALS.items()]
    + list(ERRORS.items()),
)
def test_refusals_are_told_for_the_field_that_they_are_about(text: str, path: str | None) -> None:
    (problem,) = refused(text).wrong
    assert problem.path == path
    assert problem.action
    # What was found before is not told again.
    if path is not None:
        assert len(refused(text, before=path if path != "cluster" else "cluster.nodes").wrong) == 1


def test_a_message_of_the_site_is_kept_whole() -> None:
    (problem,) = refused(
        "sbatch: error: You must name a project\nallocation failure: Unspecified error"
    ).wrong
    assert problem.got == "'You must name a project'"


def test_nodes_that_are_down_are_no_refusal() -> None:
    text = "allocation failure: Requested node configuration is not available"
    own = refused(text, waits=True)
    assert not own.wrong
    assert "nodes for it are down" in own.notes[0]


# ---- the result


def test_one_error_holds_all_and_its_class_says_what_is_to_be_done() -> None:
    spec, storage = SpecError(Problem("a")), StorageError(Problem("b"))
    with pytest.raises(SpecError) as caught:
        Preflight((spec, storage), (), 0.1).raise_if_bad()
    assert [problem.what for problem in caught.value.problems] == ["a", "b"]
    with pytest.raises(StorageError):
        Preflight((storage,), (), 0.1).raise_if_bad()
    with pytest.raises(EnvironmentNotAble):
        Preflight((EnvironmentNotAble("c"),), (), 0.1).raise_if_bad()
    Preflight((), ("note",), 0.1).raise_if_bad()


def test_files_of_jobs_grow_with_ranks_and_with_a_chain() -> None:
    one = files_of_the_jobs(Request("t", max_attempts=5))
    assert files_of_the_jobs(Request("t", max_attempts=5, nodes=4)) == one + 9
    chain = files_of_the_jobs(Request("t", max_attempts=5, continue_by="chain"))
    assert chain == one + 12
