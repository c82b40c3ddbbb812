"""Site profiles: how one is chosen and found, and what a wrong one is told."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from spec_helpers import MINIMAL, MINIMAL_YAML, changed, paths, problems, write

from harness.cli.main import main
from harness.errors import Problem, SpecError
from harness.spec import load_site, load_spec
from harness.spec.docs import field_docs
from harness.spec.models_site import Site
from harness.spec.reference import site_reference_markdown
from harness.spec.shape import all_paths
from harness.spec.site import SITES, site_names

SHIPPED = sorted(file.stem for file in SITES.glob("*.yaml"))


def wrong(folder: Path, text: str) -> list[Problem]:
    """What is wrong with a profile by itself; its name is on the first line."""
    file = write(folder, f"name: x\n{text}", "x.yaml")
    with pytest.raises(SpecError) as caught:
        load_site(str(file))
    assert all(problem.file == str(file) for problem in caught.value.problems)
    return list(caught.value.problems)


def sites(folder: Path, *names: str) -> dict[str, str]:
    """Profiles of these names, by path."""
    return {name: str(write(folder, f"name: {name}\n", f"{name}.yaml")) for name in names}


@pytest.mark.parametrize(
    ("layers", "wanted", "source"),
    [
        ("option spec variable user", "option", "--site"),
        ("override spec variable user", "override", "-o"),
        ("spec variable user", "spec", "spec"),
        ("variable user", "variable", "HARNESS_SITE"),
        ("user", "user", "user config {user}:1"),
        ("", "generic", "default"),
    ],
)
def test_which_site_is_chosen_and_who_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: str, wanted: str, source: str
) -> None:
    file = sites(tmp_path, "option", "override", "spec", "variable", "user")
    given = layers.split()
    user = write(tmp_path, f"site: {file['user']}\n" if "user" in given else "", "config.yaml")
    monkeypatch.setenv("HARNESS_SITE", file["variable"] if "variable" in given else "")
    found = load_spec(
        changed(cluster={"site": file["spec"]}) if "spec" in given else MINIMAL,
        overrides=[f"cluster.site={file['override']}"] if "override" in given else [],
        site=file["option"] if "option" in given else None,
        user_config=user,
    )
    assert found.site.name == wanted
    assert found.spec.cluster.site == file.get(wanted, wanted)
    assert found.sources["cluster.site"] == source.format(user=user)


def test_plan_says_that_the_variable_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    job = write(tmp_path, MINIMAL_YAML.replace("/data/train", "train"))
    profile = write(tmp_path, "name: mine\ncluster: {mem_gb: 8}\n", "mine.yaml")
    monkeypatch.setenv("HARNESS_SITE", str(profile))
    main(["plan", str(job)])
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if "cluster.site" in line]
    assert str(profile) in line
    assert line.rstrip().endswith("HARNESS_SITE")
    (line,) = [line for line in shown.splitlines() if "cluster.mem_gb" in line]
    assert line.rstrip().endswith(f"site {profile}")


def test_a_variable_that_names_no_site_is_named_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_SITE", "perlmuter")
    (problem,) = problems(MINIMAL)
    assert str(problem).startswith("HARNESS_SITE=perlmuter: cluster.site: there is no such site")
    assert problem.action == "write perlmutter"


def test_names_are_found_at_the_users_then_the_systems_then_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, system = tmp_path / "harness" / "sites", tmp_path / "system"
    own.mkdir(parents=True)
    system.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for folder, names in ((own, ["a"]), (system, ["a", "b", "generic"])):
        for name in names:
            write(folder, f"name: {name}\ndescription: {folder}\n", f"{name}.yaml")
    assert load_site("generic").description != str(system)
    monkeypatch.setenv("HARNESS_SITES", str(system))
    found = {name: load_site(name).description for name in ("a", "b", "generic")}
    assert found == {"a": str(own), "b": str(system), "generic": str(system)}
    assert set(site_names()) == {"a", "b", *SHIPPED}


def test_all_mistakes_of_a_profile_with_their_lines(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        """\
purge_dais: 30
scheduler: pbs
cluster:
  mem_gb: 0
  acount: abc
  time: 3600
  site: other
  sbatch:
    mem: 3G
    comment: "a\\nb"
    licenses: scratch
partitions:
  gpu: {time_max: 90, gpu_per_node: 4}
gres: "gpu:a100 --wrap"
environment:
  modules: [python/3.11 cuda, "-t"]
  venv: ""
  variables: {PATH: /x, SLURM_CONF: /y, a-b: c, GOOD: $(x)}
quota_command: quota -s
""",
    )
    assert [(p.line, p.path) for p in found] == [
        (2, "purge_dais"),
        (3, "scheduler"),
        (5, "cluster.mem_gb"),
        (6, "cluster.acount"),
        (7, "cluster.time"),
        (8, "cluster.site"),
        (10, "cluster.sbatch.mem"),
        (11, "cluster.sbatch.comment"),
        (14, "partitions.gpu.time_max"),
        (14, "partitions.gpu.gpu_per_node"),
        (15, "gres"),
        (17, "environment.modules.0"),
        (17, "environment.modules.1"),
        (18, "environment.venv"),
        (19, "environment.variables.a-b"),
        (19, "environment.variables.PATH"),
        (19, "environment.variables.SLURM_CONF"),
        (20, "quota_command"),
    ]
    actions = {p.path: p.action for p in found}
    assert actions["purge_dais"] == "write purge_days"
    assert actions["cluster.acount"] == "write account"
    assert actions["cluster.sbatch.mem"] == "use cluster.mem_gb"
    assert actions["partitions.gpu.gpu_per_node"] == "write gpus_per_node"
    assert actions["environment.variables.PATH"] == "use environment.modules, init or venv"


def test_a_spec_reports_its_sites_mistakes_once_also_those_it_overrides(tmp_path: Path) -> None:
    site = write(tmp_path, "name: x\ncluster:\n  mem_gb: 0\n  qos: a b\n", "x.yaml")
    job = write(tmp_path, f"{MINIMAL_YAML}nam: 3\ncluster: {{site: x.yaml, mem_gb: 4}}\n")
    assert [(p.file, p.line, p.path) for p in problems(job)] == [
        (str(site), 3, "cluster.mem_gb"),
        (str(site), 4, "cluster.qos"),
        (str(job), 5, "nam"),
    ]


def test_validate_reports_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train").mkdir()
    site = write(tmp_path, "name: x\ncluster:\n  mem_gib: 3\n", "x.yaml")
    job = write(tmp_path, MINIMAL_YAML.replace("/data/train", "train"))
    assert main(["validate", str(job), "--site", str(site), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)["problems"]
    assert [(p["file"], p["line"], p["path"]) for p in said] == [(str(site), 3, "cluster.mem_gib")]


def test_what_goes_together_is_seen_with_the_specs_own_values(tmp_path: Path) -> None:
    # By itself no mistake: a spec that asks for GPUs has a use for it.
    site = write(tmp_path, "name: x\ncluster: {cpus_per_gpu: 8}\n", "x.yaml")
    spec = changed(cluster={"gpus_per_node": 1})
    assert load_spec(spec, site=str(site)).spec.cluster.cpus_per_gpu == 8
    (problem,) = problems(MINIMAL, site=str(site))
    assert (problem.file, problem.line, problem.path) == (str(site), 2, "cluster.cpus_per_gpu")


def test_sbatch_options_of_site_and_spec_are_joined(tmp_path: Path) -> None:
    text = "name: x\ncluster:\n  sbatch:\n    licenses: a\n    comment: b\n    exclusive: true\n"
    site = write(tmp_path, text, "x.yaml")
    spec = changed(cluster={"sbatch": {"comment": "mine", "exclusive": False}})
    found = load_spec(spec, site=str(site))
    wanted = {"licenses": "a", "comment": "mine", "exclusive": False}
    assert found.spec.cluster.sbatch == wanted
    assert found.spec.cluster.partition is None


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("partitions: {a: {}}\n", "partitions"),
        ("environment: {modules: [a]}\n", "environment"),
        ("gres: gpu\n", "gres"),
        ("compute_may_submit: false\n", "compute_may_submit"),
        ("polling: {queue_s: 3}\n", "polling"),
        ("ssh: {host: a}\n", "ssh"),
        ("cluster: {partition: a}\n", "cluster.partition"),
        ("cluster: {sbatch: {licenses: a}}\n", "cluster.sbatch"),
    ],
)
def test_a_local_site_has_nothing_that_would_be_ignored(
    tmp_path: Path, text: str, path: str
) -> None:
    assert load_site(str(write(tmp_path, f"name: y\n{text}", "y.yaml"))).scheduler == "slurm"
    (problem,) = wrong(tmp_path, f"scheduler: local\n{text}")
    assert (problem.path, problem.line) == (path, 3)
    assert problem.what == "means nothing with scheduler: local"


def test_a_venv_and_a_build_exclude_each_other() -> None:
    text = "environment:\n  venv: v\n  build: {requirements: r.txt}\n"
    with tempfile.TemporaryDirectory() as folder:  # a short one: what is long is cut
        (problem,) = wrong(Path(folder), text)
    assert (problem.line, problem.path) == (4, "environment.build")
    assert problem.got == f"'{folder}/r.txt'"


def test_paths_start_from_the_profiles_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHEELS", "/w")
    text = "environment:\n  init: i.sh\n  build: {requirements: r.txt, wheelhouse: $WHEELS/x}\n"
    environment = load_site(str(write(tmp_path, f"name: x\n{text}", "x.yaml"))).environment
    assert environment.build is not None
    assert environment.init == f"{tmp_path}/i.sh"
    assert environment.build.requirements == f"{tmp_path}/r.txt"
    assert environment.build.wheelhouse == "/w/x"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_takes_a_minimal_spec(name: str) -> None:
    found = load_spec(MINIMAL, site=name)
    assert found.site.name == name
    given: dict[str, Any] = found.site.cluster.model_dump(
        include=found.site.cluster.model_fields_set
    )
    assert {key: getattr(found.spec.cluster, key) for key in given} == given


@pytest.mark.parametrize("name", ["alliance_canada", "perlmutter", "jsc"])
def test_a_shape_of_a_real_cluster_says_that_nobody_ran_it(name: str) -> None:
    text = (SITES / f"{name}.yaml").read_text()
    assert text.startswith("# The shape of ")
    assert "Nobody has run harness there" in text
    assert "Check first:" in text
    # Whose account is charged is nobody else's.
    assert load_site(name).cluster.account is None


def test_the_table_of_the_docs_has_every_field() -> None:
    table = site_reference_markdown()
    docs = {doc.path: doc for doc in field_docs(Site)}
    assert set(docs) == set(all_paths(Site))
    assert "partitions.NAME.time_max" in docs
    for path, doc in docs.items():
        assert doc.doc, path
        assert (f"| `{path}` |" in table) is not path.startswith("cluster.")


def test_unknown_sites_and_broken_files(tmp_path: Path) -> None:
    assert paths(problems(MINIMAL, site="../x")) == [None]
    assert paths(problems(MINIMAL, site=".hidden")) == ["cluster.site"]
    (problem,) = problems(MINIMAL, site=str(write(tmp_path, "- a\n", "l.yaml")))
    assert (problem.what, problem.line) == ("a site profile must be a mapping", 1)
    (problem,) = problems(MINIMAL, site=str(tmp_path / "none.yaml"))
    assert problem.what == "there is no such file"
