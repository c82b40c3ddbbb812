"""A run in words: the paragraph of ``harness status`` and the headline figure of a row."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any

from harness.errors import ExitCode
from harness.runs.attempts import read_attempts
from harness.runs.clock import seconds_since, words_for
from harness.runs.heartbeat import read_heartbeat
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.runs.registry import RunSummary, summarize
from harness.runs.state import record_metrics

_SHOWN_FIRST = ("test_accuracy", "test_auc", "test_mae", "test_loss")

_SENTENCE = {
    "new": "has been created and no attempt has begun",
    "running": "is running",
    "stopped": "has stopped and is saved; the same command continues it",
    "interrupted": "was interrupted; the same command continues it from its last checkpoint",
    "finished": "is finished",
    "failed": "has failed",
    # Of runs with a job, see harness.launch.joined.
    "queued": "is queued",
    "waiting": "waits to be started again by itself",
    "starting": "is starting",
    "suspended": "is suspended",
    "stopping": "is being stopped",
    "completing": "is leaving its nodes",
    "cancelled": "was cancelled",
}

_AFTER = {
    "refused": "has stopped, {by} refused the last attempt; the same command tries again",
    "requeue": "has stopped before its next save; the same command continues from what was saved",
}
"""What ``stopped`` means after an attempt of this outcome, where it is not that all is saved."""

_REFUSED_BY: dict[int | None, str] = {
    ExitCode.USAGE: "the spec or the command",
    ExitCode.ENVIRONMENT: "the machine",
    ExitCode.DATA: "the data",
    ExitCode.STORAGE: "the storage",
}


def headline(row: RunSummary) -> tuple[str, float] | None:
    """The figure that says how good a run is: of the test if there is one, else the best one."""
    final = row.final or {}
    ranked = [name for name in _SHOWN_FIRST if name in final]
    ranked += [name for name in final if name.startswith("test_")]
    if ranked:
        return ranked[0], final[ranked[0]]
    best = row.best or {}
    if best.get("metric") and best.get("value") is not None:
        return str(best["metric"]), best["value"]
    return None


def progress(row: RunSummary) -> str:
    """``120/300``, or what of it is known."""
    if row.step is None:
        return ""
    return f"{row.step}/{row.total_steps}" if row.total_steps else str(row.step)


def status(paths: RunPaths, row: RunSummary | None = None) -> dict[str, Any]:
    """Everything that the files of a run say, as plain JSON.

    Args:
        row: its summary, where the caller has made it already.

    Raises:
        StorageError: the run is broken; says which file and why.
    """
    record = read_record(paths)
    return {
        **(row or summarize(paths)).as_json(),
        "metrics": record_metrics(record),
        "heartbeat": read_heartbeat(paths),
        "attempts": [asdict(attempt) for attempt in read_attempts(paths)],
        "parent": record.get("parent"),
        "rollbacks": record.get("rollbacks") or [],
        "exact": record.get("exact"),
        "not_exact_because": record.get("not_exact_because") or [],
    }


def paragraph(facts: dict[str, Any]) -> str:
    """The facts of :func:`status` as one paragraph; those of a job may be joined with them."""
    state = facts["state"]
    sentences = [f"{facts['name']} {facts['run_id']} {_sentence(facts)}"]
    if facts["reason"]:
        sentences[0] += f": {facts['reason']}"
    path = shlex.quote(facts["path"])
    if state in ("failed", "cancelled") and facts.get("job"):
        sentences.append(f"`harness resume {path}` continues it from its last checkpoint")
    elif state == "failed":
        sentences.append(
            f"The same command with `--run-dir {path}` continues it; without, it begins a new run "
            "(--new is not needed)"
        )
    if facts.get("next"):
        sentences.append(f"Next: {facts['next']}")
    where = _where(facts)
    if where:
        sentences.append(where)
    if state in ("running", "stopping"):
        sentences.append(_pace(facts.get("heartbeat") or {}))
    best = facts["best"] or {}
    if best.get("value") is not None:
        sentences.append(f"Best {best['metric']} {best['value']:.4g} at step {best['step']}")
    if facts["final"]:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in facts["final"].items())
        sentences.append(f"Final figures: {figures}")
    if facts["parent"]:
        parent = facts["parent"]
        sentences.append(f"It was forked from {parent['run_id']} at step {parent['step']}")
    if facts.get("rollbacks"):
        sentences.append(_rolled_back(facts["rollbacks"]))
    if facts["exact"] is False:
        sentences.append("A resume is not exact: " + "; ".join(facts["not_exact_because"]))
    return ". ".join(sentence.rstrip(".") for sentence in sentences if sentence) + "."


def _sentence(facts: dict[str, Any]) -> str:
    last = facts["attempts"][-1] if facts["attempts"] else {}
    if facts["state"] == "stopped" and last.get("rolled_back_to") is not None:
        text = "has stopped; the same command continues it"
    elif facts["state"] == "stopped" and last.get("outcome") in _AFTER:
        by = _REFUSED_BY.get(last.get("exit_code"), "something")
        text = _AFTER[last["outcome"]].format(by=by)
    else:
        text = _SENTENCE[facts["state"]]
    if facts.get("job"):
        command = f"`harness resume {shlex.quote(facts['path'])}`"
        text = text.replace("the same command", command)
    return text


def _where(facts: dict[str, Any]) -> str:
    if facts["step"] is None:
        return ""
    text = f"Step {facts['step']}"
    if facts["total_steps"]:
        text += f" of {facts['total_steps']} ({100 * facts['step'] / facts['total_steps']:.0f}%)"
    beat = facts.get("heartbeat") or {}
    if facts["state"] != "finished" and beat.get("phase") is not None:
        text += f", epoch {beat.get('epoch')} of phase {beat['phase']}"
    if facts["attempt"]:
        text += f", attempt {facts['attempt']}"
    return text


def _rolled_back(done: list[dict[str, Any]]) -> str:
    """What became of values that were not finite (``training.nan: rollback``)."""
    last = done[-1]
    times = "once" if len(done) == 1 else f"{len(done)} times, the last time"
    return (
        f"It went back {times} from step {last['step']} to step {last['to_step']}, where a value "
        f"was not finite; learning rates are {last['rate_scale']:g} of the spec's since"
    )


def _pace(beat: dict[str, Any]) -> str:
    """What the heartbeat of a running run says."""
    parts = []
    if beat.get("loss") is not None:
        parts.append(f"loss {beat['loss']:.4g}")
    if beat.get("examples_per_s"):
        parts.append(f"{beat['examples_per_s']:.0f} examples/s")
    if beat.get("eta_s") is not None:
        parts.append(f"about {words_for(beat['eta_s'])} left")
    if beat.get("time"):
        parts.append(f"last sign of life {words_for(seconds_since(beat['time']))} ago")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]
