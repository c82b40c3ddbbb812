"""What a site's profile says against a spec, in ``harness validate`` and ``harness plan``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spec_helpers import MINIMAL, MINIMAL_YAML, changed, write

from harness.cli.main import main
from harness.errors import SpecError
from harness.launch.site_checks import check_by_profile
from harness.spec import load_spec
from harness.spec.docs import field_docs
from harness.spec.models_site import Site
from harness.spec.site import SITES

SITE = """\
name: here
partitions:
  gpu: {time_max: "1-00:00:00", gpus_per_node: 4, cpus_per_node: 32, mem_gb: 250}
  short: {time_max: "1:00:00", cpus_per_node: 64, preemptable: true}
  bare: {}
  cpu: {gpus_per_node: 0}
"""


def found(folder: Path, more: str = "", **cluster: Any) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Path, value and allowed of each problem; or the notes."""
    site = write(folder, SITE + more, "here.yaml")
    resolved = load_spec(changed(cluster=cluster), site=str(site))
    try:
        return [], check_by_profile(resolved)
    except SpecError as error:
        problems = error.problems
    assert all("here" in problem.what and problem.action for problem in problems)
    return [(p.path, p.got, p.allowed) for p in problems], []


@pytest.mark.parametrize(
    ("cluster", "wanted"),
    [
        ({"time": "24:00:00"}, []),
        ({"time": "24:00:01"}, [("cluster.time", "24:00:01", "up to 1-00:00:00")]),
        ({"gpus_per_node": 4, "mem_gb": 250, "cpus_per_rank": 32}, []),
        ({"gpus_per_node": 5}, [("cluster.gpus_per_node", "5", "up to 4")]),
        ({"mem_gb": 251}, [("cluster.mem_gb", "251 GB", "up to 250 GB")]),
        ({"cpus_per_rank": 33}, [("cluster.cpus_per_rank", "33", "up to 32")]),
        (
            {"gpus_per_node": 4, "cpus_per_gpu": 9},
            [("cluster.cpus_per_gpu", "36", "up to 32")],
        ),
        ({"partition": "cpu", "gpus_per_node": 1}, [("cluster.gpus_per_node", "1", "up to 0")]),
        ({"partition": "bare", "gpus_per_node": 9, "mem_gb": 999, "time": "99:00:00"}, []),
        ({"partition": "unknown", "gpus_per_node": 9}, []),
        ({"partition": None, "gpus_per_node": 9}, []),
        # Of several one that has everything is enough, or that may have.
        ({"partition": "gpu,short", "time": "2:00:00"}, []),
        ({"partition": "short,unknown", "time": "2:00:00"}, []),
        (
            {"partition": "gpu,short", "time": "48:00:00"},
            [
                ("cluster.time", "48:00:00", "up to 1-00:00:00"),
                ("cluster.time", "48:00:00", "up to 1:00:00"),
            ],
        ),
    ],
)
def test_partitions(
    tmp_path: Path, cluster: dict[str, Any], wanted: list[tuple[str, str, str]]
) -> None:
    assert found(tmp_path, **{"partition": "gpu", **cluster})[0] == wanted


def test_notes(tmp_path: Path) -> None:
    _, notes = found(tmp_path, "purge_days: 30\n", partition="short", continue_by="none")
    assert len(notes) == 2
    assert notes[0].startswith("site here deletes files on scratch that nobody has touched for 30")
    assert notes[1].startswith("jobs in partition short are stopped for others, says site here;")
    assert notes[1].endswith("by hand only")
    _, notes = found(tmp_path, partition="short")
    assert notes == ["jobs in partition short are stopped for others, says site here"]
    assert found(tmp_path, partition="gpu") == ([], [])


@pytest.mark.parametrize("said", ["false", "true", "null", None])
@pytest.mark.parametrize("continue_by", ["requeue", "chain", "none"])
def test_nodes_that_may_not_control(tmp_path: Path, said: str | None, continue_by: str) -> None:
    more = "" if said is None else f"compute_may_control: {said}\n"
    problems, notes = found(tmp_path, more, continue_by=continue_by)
    refused = said == "false" and continue_by == "requeue"
    assert problems == ([("cluster.continue_by", "requeue", "chain, none")] if refused else [])
    assert notes == []


def test_validate_and_plan_say_so_with_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    site = write(tmp_path, f"{SITE}compute_may_control: false\n", "here.yaml")
    text = MINIMAL_YAML.replace("/data/train", "train")
    text = text.replace("https://tfhub.dev/google/imagenet/mobilenet_v2/5", "plugin:m")
    text += 'cluster:\n  partition: short\n  time: "2:00:00"\n  continue_by: requeue\n'
    job = write(tmp_path, text)
    assert main(["validate", str(job), "--site", str(site), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert [(p["file"], p["line"], p["path"]) for p in said["problems"]] == [
        (str(job), 7, "cluster.time"),
        (str(job), 8, "cluster.continue_by"),
    ]
    assert main(["plan", str(job), "--site", str(site)]) == 2
    err = capsys.readouterr().err
    assert f"{job}:7: cluster.time: is longer than a job may last in partition short" in err
    assert f"{job}:8: cluster.continue_by: cannot be done at site here" in err
    good = ["-o", "cluster.continue_by=chain", "-o", "cluster.time=0:30:00"]
    assert main(["validate", str(job), "--site", str(site), *good]) == 0
    assert main(["plan", str(job), "--site", str(site), *good]) == 0
    assert "jobs in partition short are stopped for others" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(file.stem for file in SITES.glob("*.yaml")))
def test_no_shipped_profile_refuses_a_minimal_spec_or_says_what_has_no_effect(name: str) -> None:
    resolved = load_spec(MINIMAL, site=name)
    check_by_profile(resolved)
    site = resolved.site
    assert not {"ssh", "compute_may_submit"} & site.model_fields_set
    assert "accounting_s" not in site.polling.model_fields_set


def test_what_has_no_effect_is_marked() -> None:
    unused = [doc.path for doc in field_docs(Site) if "Not used yet" in doc.doc]
    assert unused == [
        "ssh",
        "ssh.host",
        "ssh.jump",
        "compute_may_submit",
        "polling.accounting_s",
    ]
