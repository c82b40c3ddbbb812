"""The JSON schema of the spec, from which editors complete and check."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from harness.spec.docs import class_docs, default_value
from harness.spec.duration import Duration
from harness.spec.models import Spec
from harness.spec.shape import Shape, fields, model_shape, step


class _Generator(GenerateJsonSchema):
    """Writes durations as texts, which not every version of pydantic does by itself."""

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Duration) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the spec, with the docs as descriptions."""
    schema = Spec.model_json_schema(by_alias=True, schema_generator=_Generator)
    definitions = schema.get("$defs", {})
    _describe(Spec, schema)
    for model in _models(Spec):
        if model.__name__ in definitions:
            _describe(model, definitions[model.__name__])
    if "PluginRef" in definitions:
        text = {"type": "string", "pattern": r"^plugin:[A-Za-z0-9_][A-Za-z0-9._-]*$"}
        definitions["PluginRef"] = {"anyOf": [text, definitions["PluginRef"]]}
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "harness job spec",
    }
    return {**schema, **head}


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """All models reached from one, itself included."""
    found: list[type[BaseModel]] = []
    shapes: list[Shape | None] = [model_shape(model)]
    while shapes:
        shape = shapes.pop()
        if shape is None:
            continue
        shapes += [shape.item, shape.value]
        if shape.model is not None and shape.model not in found:
            found.append(shape.model)
            shapes += [step(shape, key) for key in fields(shape.model)]
    return found


def _describe(model: type[BaseModel], schema: dict[str, Any]) -> None:
    docs = class_docs(model)
    for name, info in model.model_fields.items():
        key = info.alias or name
        described = schema["properties"][key]
        # The doc replaces the words of the type, which the pattern or the choices repeat.
        described["description"] = docs[name]
        described.pop("title", None)
        if not info.is_required():
            described["default"] = default_value(model, key)
