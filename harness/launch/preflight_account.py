"""Whether account and QOS are the user's, and may be used in the partition."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.errors import EnvironmentNotAble
from harness.launch.cluster_facts import Facts, Partition
from harness.launch.preflight_report import Report
from harness.launch.request import Request
from harness.launch.slurm import Slurm, last_line
from harness.spec.base import show

ACCOUNT = "cluster.account"
QOS = "cluster.qos"
Answer = str | list[list[str]]
"""Rows of a table of sacctmgr, or in words why there is none."""


@dataclass(frozen=True)
class Association:
    """One account that the user may charge, everywhere or in one partition.

    ``qos`` is empty where the database names none.
    """

    account: str
    partition: str
    qos: tuple[str, ...]
    default_qos: str


def ask(slurm: Slurm, *words: str) -> Answer:
    """Asks the accounts' database, which may be down while SLURM itself goes on."""
    if not slurm.has("sacctmgr"):
        return "sacctmgr is not installed here"
    try:
        done: subprocess.CompletedProcess[str] = slurm.run(
            "sacctmgr", "-nP", "show", *words, check=False
        )
    except EnvironmentNotAble as error:
        return _cleaned(error.problems[0].got or error.problems[0].what)
    if done.returncode:
        return _cleaned(last_line(done.stderr or done.stdout))
    return [line.split("|") for line in done.stdout.splitlines()]


def _cleaned(text: str) -> str:
    return text.removeprefix("sacctmgr: ").removeprefix("error: ")


def ask_user(slurm: Slurm, user: str) -> Answer:
    """The user's associations in every cluster of the database."""
    columns = "defaultaccount,cluster,account,partition,qos,defaultqos"
    return ask(slurm, "user", user, "withassoc", f"format={columns}")


def ask_parents(slurm: Slurm) -> Answer:
    """Cluster, account and the account above it, of all accounts."""
    return ask(slurm, "assoc", "user=", "format=cluster,account,parentname")


def check_account(
    report: Report,
    request: Request,
    facts: Facts,
    partitions: Sequence[Partition],
    answer: Answer,
    parents: Callable[[], Answer],
) -> None:
    """Checks account and QOS of a job; ``parents`` is asked only where it matters."""
    if not facts.accounting:
        if request.account or request.qos:
            report.note("this cluster keeps no accounts: account and QOS mean nothing here")
        return
    if isinstance(answer, str):
        report.note(f"account and QOS could not be looked up ({answer})")
        return
    cluster = facts.settings.get("ClusterName", "").lower()
    rows = [row for row in answer if len(row) == 6 and row[1].lower() == cluster]
    mine = [Association(a, p, _names(qos), default) for _, _, a, p, qos, default in rows]
    if not facts.enforces("associations"):
        report.note("this cluster does not hold jobs to accounts, so they were not checked")
        return
    account = _account(report, request, mine, rows[0][0] if rows else "")
    if account is None:
        _qos_of_any(report, request, facts, mine)
        return
    places = [p for p in partitions if _usable(mine, account, p.name)]
    if not places and partitions:
        _elsewhere_only(report, mine, account, partitions)
        return
    qos = _qos(report, request, facts, mine, account, places)
    _partition_lists(report, request, places, account, qos, cluster, parents)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _usable(mine: Iterable[Association], account: str, partition: str) -> list[Association]:
    return [a for a in mine if a.account == account and a.partition in ("", partition)]


def _elsewhere_only(
    report: Report, mine: Sequence[Association], account: str, partitions: Sequence[Partition]
) -> None:
    here = " or ".join(part.name for part in partitions)
    others = sorted({a.account for a in mine for p in partitions if a.partition in ("", p.name)})
    report.add(
        ACCOUNT,
        f"this account is not yours to use in partition {here}",
        show(account),
        ", ".join(others) or "no account of yours can be used there",
        "write another account, or choose another partition",
    )


def _account(
    report: Report, request: Request, mine: Sequence[Association], default: str
) -> str | None:
    """The account that is charged, or None when that is a problem (told) or not known."""
    names = sorted({a.account for a in mine})
    if not mine:
        report.add(
            ACCOUNT,
            "you have no account on this cluster",
            show(request.account),
            None,
            "ask the cluster's operators to add you to one",
        )
        return None
    if request.account is None:
        if not default:
            what = "is not given, and you have no default account"
            report.add(ACCOUNT, what, "null", ", ".join(names), "name one of these")
            return None
        report.note(f"{ACCOUNT} is not given: your default account {default} is charged")
        return default
    # SLURM keeps account names in small letters and compares so.
    account = request.account.lower()
    if account in names:
        return account
    near = difflib.get_close_matches(account, names, 1)
    report.add(
        ACCOUNT,
        "this account is not one of yours",
        show(request.account),
        ", ".join(names),
        f"write {near[0]}" if near else "name one of these, or ask its owner to add you",
    )
    return None


def _qos(
    report: Report,
    request: Request,
    facts: Facts,
    mine: Sequence[Association],
    account: str,
    places: Sequence[Partition],
) -> str | None:
    """The QOS that a job has, or None when it is refused (told) or not known."""
    names = [part.name for part in places] or [""]
    found = [a for name in names for a in _usable(mine, account, name)]
    allowed = sorted({qos for a in found for qos in a.qos})
    if request.qos is None:
        default = next((a.default_qos for a in found if a.default_qos), None)
        if default is not None:
            report.note(f"{QOS} is not given: your default QOS {default} holds")
        return default
    if not allowed or not facts.enforces("qos") or request.qos.lower() in allowed:
        return request.qos.lower()
    others = sorted({a.account for a in mine if request.qos.lower() in a.qos})
    action = f"write one of these, or use account {others[0]}" if others else "write one of these"
    what = f"this QOS is not open to you with account {account}"
    report.add(QOS, what, show(request.qos), ", ".join(allowed), action)
    return None


def _qos_of_any(
    report: Report, request: Request, facts: Facts, mine: Sequence[Association]
) -> None:
    """Where the account is wrong: whether the QOS goes with any account of the user's."""
    allowed = sorted({qos for a in mine for qos in a.qos})
    if request.qos is None or not allowed or not facts.enforces("qos"):
        return
    if request.qos.lower() not in allowed:
        what = "this QOS is not open to you with any account"
        report.add(QOS, what, show(request.qos), ", ".join(allowed), "write one of these")


def _partition_lists(
    report: Report,
    request: Request,
    places: Sequence[Partition],
    account: str,
    qos: str | None,
    cluster: str,
    parents: Callable[[], Answer],
) -> None:
    """What partitions let in.  A job that they do not is accepted by SLURM and never started."""
    refused = []
    for part in places:
        for path, name, kind in ((ACCOUNT, account, "Accounts"), (QOS, qos, "Qos")):
            allow, deny = part.names(f"Allow{kind}"), part.names(f"Deny{kind}")
            if name is None:
                continue
            if allow is not None and name not in allow:
                above = _above(report, name, cluster, parents) if path == ACCOUNT else []
                shared = next((one for one in above if one in allow), None)
                if shared is not None:
                    report.note(
                        f"partition {part.name} lets in account {shared}, to which {name} "
                        "belongs: newer SLURM takes that as enough, older does not"
                    )
                    continue
                refused.append((part, path, name, ", ".join(allow)))
            elif allow is None and deny is not None and name in deny:
                refused.append((part, path, name, f"all but {', '.join(deny)}"))
    if len({part.name for part, *_ in refused}) < len(places):
        for part, path, name, _ in refused:
            report.note(f"not in partition {part.name}: it does not let {path} {name} in")
        return
    for part, path, name, allowed in refused:
        given = request.account if path == ACCOUNT else request.qos
        got = show(name) if given else f"{show(name)}, your default"
        what = f"partition {part.name} does not let in jobs with this {path.rpartition('.')[2]}"
        report.add(path, what, got, allowed, "use one of these, or choose another partition")


def _above(report: Report, account: str, cluster: str, parents: Callable[[], Answer]) -> list[str]:
    """The accounts that an account belongs to, nearest first."""
    answer = parents()
    if isinstance(answer, str):
        report.note(f"to which account {account} belongs could not be looked up ({answer})")
        return []
    over = {row[1]: row[2] for row in answer if len(row) == 3 and row[0].lower() == cluster}
    found: list[str] = []
    while over.get(account) and over[account] not in found:
        account = over[account]
        found.append(account)
    return found
