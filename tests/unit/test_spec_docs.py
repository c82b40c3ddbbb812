"""Every field is documented, and the schema and the reference say what the models do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from spec_helpers import MINIMAL

from harness.errors import UsageError
from harness.spec import Spec, field_docs, json_schema, load_spec, spec_reference_markdown
from harness.spec.config import UserConfig
from harness.spec.docs import class_docs, field_doc
from harness.spec.models_site import Site
from harness.spec.resume import flat
from harness.spec.schema import _models
from harness.spec.site import SITES, load_site, site_names
from harness.spec.yaml_read import parse_yaml

DOCS = field_docs()


@pytest.mark.parametrize("model", [Spec, Site, UserConfig], ids=lambda model: model.__name__)
def test_every_field_has_a_docstring(model: type) -> None:
    for inner in _models(model):
        missing = set(inner.model_fields) - set(class_docs(inner))
        assert not missing, f"{inner.__name__} has fields without a docstring: {missing}"
        for name, text in class_docs(inner).items():
            assert text.rstrip("`").endswith((".", ")")), f"{inner.__name__}.{name}: {text}"


def test_every_leaf_of_a_spec_is_documented() -> None:
    paths = {doc.path for doc in DOCS}
    for path in flat(load_spec(MINIMAL).spec):
        assert re.sub(r"\.\d+", "[]", path) in paths


def test_the_defaults_are_those_of_a_loaded_spec() -> None:
    defaults = {doc.path: doc.default for doc in DOCS if doc.default != "required"}
    spec = flat(load_spec(MINIMAL).spec)
    compared = [path for path in spec if path in defaults and path != "data.train"]
    assert len(compared) > 60
    for path in compared:
        assert parse_yaml(f"default: {defaults[path]}", path).data["default"] == spec[path]


@pytest.mark.parametrize(
    ("path", "supported", "so_far"),
    [
        ("training.seed", True, ""),
        ("data.balance", True, ""),
        ("adaptation.weight", True, ""),
        ("cluster.device", True, ""),
        ("cluster.account", True, ""),
        ("cluster.container", True, ""),
        ("training.phases[].unfreeze", True, ""),
        ("data.na_values", True, ""),
        ("data.columns.text", True, ""),
        ("backbone.preprocessor", True, ""),
        ("training.nan", True, ""),
    ],
)
def test_what_is_supported_so_far(path: str, supported: bool, so_far: str) -> None:
    doc = field_doc(path)
    assert (doc.supported, doc.so_far) == (supported, so_far)


def test_a_field_is_found_by_position_too() -> None:
    for path in ("training.phases.0.epochs", "training.phases[2].epochs"):
        assert field_doc(path).path == "training.phases[].epochs"
    with pytest.raises(UsageError):
        field_doc("training.nothing")


def test_the_schema_has_docs_defaults_and_refuses_unknown_keys() -> None:
    schema = json_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"harness_spec", "name", "backbone", "data"}
    parts = [schema, *schema["$defs"].values()]
    for part in parts:
        for name, field in part.get("properties", {}).items():
            assert field["description"], name
            assert name in part.get("required", []) or "default" in field, name
    training = schema["$defs"]["Training"]["properties"]
    assert training["batch_size"]["default"] == 32
    assert training["phases"]["default"][0]["name"] == "head"
    assert schema["$defs"]["Uncertain"]["properties"]["as"]["default"] == "ignore"
    assert schema["$defs"]["Checkpoint"]["properties"]["every"]["default"] == "10min"


def test_the_reference_has_every_field() -> None:
    page = spec_reference_markdown()
    for doc in DOCS:
        assert f"# {doc.path}\n" in page
        assert doc.doc in page


def test_the_shipped_sites_are_valid() -> None:
    assert "generic" in site_names()
    for name in site_names():
        site = load_site(name)
        assert site.name == name
        assert site.description


def test_the_sites_are_found_where_the_docs_say() -> None:
    root = Path(__file__).resolve().parents[2]
    assert (root / "slurm" / "sites").resolve() == SITES
