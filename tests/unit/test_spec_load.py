"""Loading a spec: values, precedence, sources, paths, phases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest
from spec_helpers import MINIMAL, MINIMAL_YAML, changed, paths, problems, write

from harness.errors import SpecError
from harness.spec import Duration, PluginRef, Spec, load_spec, load_user_config


def test_a_minimal_spec_has_every_default() -> None:
    spec = load_spec(MINIMAL).spec
    assert spec.name == "textures"
    assert spec.data.train == "/data/train"
    assert spec.data.validation is not None
    assert spec.training.batch_size == 32
    assert spec.training.optimizer.exclude == ("bias", "norm")
    assert spec.checkpoint.every == Duration(600, "s")
    assert spec.logging.every == Duration(50, "steps")
    assert [(p.name, p.unfreeze) for p in spec.training.phases] == [("head", "none")]


def test_the_spec_is_frozen() -> None:
    spec = load_spec(MINIMAL).spec
    with pytest.raises(pydantic.ValidationError):
        spec.name = "other"  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError):
        spec.training.optimizer.name = "sgd"  # type: ignore[misc]


def test_precedence_option_over_spec_over_user_over_site(tmp_path: Path) -> None:
    site = "name: here\ncluster: {mem_gb: 8, account: of_site, partition: p, qos: normal}\n"
    site_file = write(tmp_path, site, "here.yaml")
    user = write(tmp_path, f"site: {site_file}\naccounts: {{here: of_user}}\n", "config.yaml")
    job = write(tmp_path, MINIMAL_YAML + "training: {seed: 5, batch_size: 8}\n")
    found = load_spec(job, overrides=["training.seed=6"], user_config=user)
    assert found.site.name == "here"
    assert found.spec.training.seed == 6
    assert found.spec.training.batch_size == 8
    assert found.spec.cluster.account == "of_user"
    assert found.spec.cluster.mem_gb == 8
    assert found.spec.cluster.nodes == 1
    assert {
        path: found.sources[path]
        for path in (
            "training.seed",
            "training.batch_size",
            "cluster.account",
            "cluster.site",
            "cluster.mem_gb",
            "cluster.nodes",
        )
    } == {
        "training.seed": "-o",
        "training.batch_size": f"spec {job}:5",
        "cluster.account": f"user config {user}:2",
        "cluster.site": f"user config {user}:1",
        "cluster.mem_gb": f"site {site_file}",
        "cluster.nodes": "default",
    }


@pytest.mark.parametrize(
    ("given", "spec_site", "wanted"),
    [("a", "b", "a"), (None, "b", "b"), (None, None, "generic")],
)
def test_which_site_is_chosen(
    tmp_path: Path, given: str | None, spec_site: str | None, wanted: str
) -> None:
    for name in ("a", "b"):
        write(tmp_path, f"name: {name}\n", f"{name}.yaml")
    spec = changed(cluster={"site": str(tmp_path / f"{spec_site}.yaml")} if spec_site else {})
    found = load_spec(spec, site=str(tmp_path / f"{given}.yaml") if given else None)
    assert found.site.name == wanted


def test_a_site_may_lie_beside_the_user_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "harness" / "sites").mkdir(parents=True)
    write(tmp_path / "harness" / "sites", "name: mine\npurge_days: 30\n", "mine.yaml")
    assert load_spec(MINIMAL, site="mine").site.purge_days == 30


def test_an_unknown_site_names_the_known_ones() -> None:
    (problem,) = problems(MINIMAL, site="generik")
    assert problem.path == "cluster.site"
    assert problem.allowed is not None and "generic, " in problem.allowed
    assert problem.action == "write generic"


def test_what_a_site_says_wrongly_is_shown_with_its_line(tmp_path: Path) -> None:
    site = write(tmp_path, "name: x\npurge_days: -1\ncluster:\n  mem_gib: 3\n", "x.yaml")
    found = problems(MINIMAL, site=str(site))
    assert [(p.file, p.line, p.path) for p in found] == [
        (str(site), 2, "purge_days"),
        (str(site), 4, "cluster.mem_gib"),
    ]


def test_sources_cover_every_leaf_and_nothing_else(tmp_path: Path) -> None:
    job = write(tmp_path, MINIMAL_YAML + "plugins: [a.py]\nhead:\n  plugin: plugin:two\n")
    found = load_spec(job)
    assert found.sources["plugins"] == f"spec {job}:5"
    assert found.sources["head.plugin.plugin"] == f"spec {job}:7"
    assert found.sources["data.validation.fraction"] == "default"
    assert found.sources["training.phases.0.epochs"] == "default"
    data = found.spec.model_dump()
    for path in found.sources:
        value: Any = data
        for part in path.split("."):
            value = value[int(part)] if part.isdigit() else value.get(part, value.get(part + "_"))
        assert not (isinstance(value, dict) and value and "options" not in path), path


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("train", "{here}/train"),
        ("../train", "{above}/train"),
        ("$DATA/train", "/big/data/train"),
        ("${DATA}/train", "/big/data/train"),
        ("~/train", "/h/train"),
        ("a$$b", "{here}/a$b"),
        ("/abs/./x/../train/", "/abs/train"),
    ],
)
def test_paths_start_from_the_spec_and_know_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, resolved: str
) -> None:
    monkeypatch.setenv("DATA", "/big/data")
    monkeypatch.setenv("HOME", "/h")
    job = write(tmp_path, MINIMAL_YAML.replace("/data/train", f'"{written}"'))
    wanted = resolved.format(here=tmp_path, above=tmp_path.parent)
    assert load_spec(job).spec.data.train == wanted


def test_an_overridden_path_starts_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write(tmp_path, MINIMAL_YAML)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = load_spec(job, overrides=["data.test=t"])
    assert found.spec.data.test == str(tmp_path / "elsewhere" / "t")


@pytest.mark.parametrize(
    ("handle", "resolved"),
    [
        ("https://tfhub.dev/a/b", "https://tfhub.dev/a/b"),
        ("hub:mod/x", "hub:{here}/mod/x"),
        ("mod/x", "{here}/mod/x"),
        ("file:mod/x", "file:{here}/mod/x"),
        ("file:///mod/../x", "file:///x"),
        ("file:///a/x.tar.gz", "file:///a/x.tar.gz"),
        ("plugin:mine", "plugin:mine"),
    ],
)
def test_handles(tmp_path: Path, handle: str, resolved: str) -> None:
    text = "harness_spec: 1\nname: n\ndata: {train: t}\nbackbone:\n"
    job = write(tmp_path, text + f'  handle: "{handle}"\n')
    assert load_spec(job).spec.backbone.handle == resolved.format(here=tmp_path)


FILES_ELSEWHERE = ["file:", "file://", "file://host/x"]


@pytest.mark.parametrize(
    "handle",
    [*FILES_ELSEWHERE, "htps://x", "hub:", "plugin:../x", "plugin:", "", " ", "a\nb"],
)
def test_bad_handles(handle: str) -> None:
    assert paths(problems(changed(backbone={"handle": handle}))) == ["backbone.handle"]


def test_an_undefined_variable_is_one_problem() -> None:
    (problem,) = problems(changed(data={"train": "$NOT_SET_ANYWHERE/x"}))
    assert problem.path == "data.train"
    assert "NOT_SET_ANYWHERE" in problem.what


def test_a_strategy_becomes_phases_that_can_be_overridden() -> None:
    spec = changed(training={"strategy": "feature_extraction"})
    found = load_spec(spec, overrides=["training.phases.0.epochs=3"])
    assert found.spec.training.strategy is None
    assert found.spec.training.phases[0].epochs == 3
    assert found.sources["training.phases.0.epochs"] == "-o"
    assert found.sources["training.phases.0.name"] == "spec"


def test_strategy_and_phases_together() -> None:
    phases = [{"name": "a", "epochs": 1}]
    both = changed(training={"strategy": "feature_extraction", "phases": phases})
    assert paths(problems(both)) == ["training.strategy"]
    only = changed(training={"phases": phases})
    found = load_spec(only, overrides=["training.strategy=feature_extraction"])
    assert found.spec.training.phases[0].name == "head"
    other = changed(training={"strategy": "feature_extraction"})
    found = load_spec(other, overrides={"training.phases": phases})
    assert found.spec.training.phases[0].name == "a"


def test_without_validation_the_best_is_the_lowest_loss() -> None:
    best = load_spec(changed(data={"validation": None})).spec.checkpoint.best
    assert (best.metric, best.mode) == ("loss", "auto")
    mine = changed(data={"validation": None}, checkpoint={"best": {"mode": "min"}})
    best = load_spec(mine).spec.checkpoint.best
    assert (best.metric, best.mode) == ("loss", "min")
    wrong = changed(data={"validation": None}, checkpoint={"best": {"mode": "max"}})
    assert paths(problems(wrong)) == ["checkpoint.best.mode"]
    wrong = changed(data={"validation": None}, checkpoint={"best": {"metric": "val_accuracy"}})
    assert paths(problems(wrong)) == ["checkpoint.best.metric"]


def test_plugins_in_either_form() -> None:
    spec = changed(
        training={"callbacks": ["plugin:a", {"plugin": "b", "options": {"x": [1, None]}}]},
        data={"augment": {"plugins": [{"plugin": "plugin:c"}]}},
    )
    found = load_spec(spec).spec
    assert found.training.callbacks == (
        PluginRef(plugin="a"),
        PluginRef(plugin="b", options={"x": [1, None]}),
    )
    assert found.data.augment.plugins[0].plugin == "c"


def test_a_source_plugin_needs_no_folder() -> None:
    spec = changed(data={"source": "plugin:mine"})
    del spec["data"]["train"]
    assert load_spec(spec).spec.data.source == PluginRef(plugin="mine")


def test_the_user_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load_user_config().runs_root == tmp_path / "runs"
    (tmp_path / "harness").mkdir()
    file = write(
        tmp_path / "harness",
        "runs_root: r\naccounts: {cluster-a: abc}\ntrust: {owners: [root], groups: []}\n",
        "config.yaml",
    )
    user = load_user_config()
    assert user.runs_root == tmp_path / "harness" / "r"
    assert user.accounts == {"cluster-a": "abc"}
    assert user.trust.owners == ("root",)
    file.write_text("runs_rot: r\ntrust: {digests: [abc]}\n")
    with pytest.raises(SpecError) as caught:
        load_user_config()
    assert [(p.line, p.path) for p in caught.value.problems] == [
        (1, "runs_rot"),
        (2, "trust.digests.0"),
    ]
    # A broken user config stops a spec too, beside the spec's own problems.
    assert set(paths(problems(changed(nam=1)))) == {"runs_rot", "trust.digests.0", "nam"}


def test_a_user_config_that_was_named_must_exist(tmp_path: Path) -> None:
    (problem,) = problems(MINIMAL, user_config=tmp_path / "none.yaml")
    assert problem.what == "there is no such file"


def test_python_values_become_plain_ones(tmp_path: Path) -> None:
    import fractions

    spec = changed(data={"train": tmp_path}, head={"hidden": (8, 4)})
    found = load_spec(spec, overrides={"head.dropout": fractions.Fraction(1, 4)}).spec
    assert found.data.train == str(tmp_path)
    assert found.head.hidden == (8, 4)
    assert found.head.dropout == 0.25
    (problem,) = problems(changed(head={"hidden": {1, 2}}))
    assert problem.what == "is not a plain value"


def test_the_given_mapping_is_left_alone() -> None:
    given = changed(training={"strategy": "feature_extraction"})
    before = repr(given)
    load_spec(given, overrides=["training.phases.0.epochs=3"])
    assert repr(given) == before


def test_a_spec_made_directly_equals_the_loaded_one() -> None:
    assert Spec.model_validate(MINIMAL) == load_spec(MINIMAL).spec
