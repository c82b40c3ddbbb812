"""What all spec models share: strictness, complaints in the user's words, marked text types.

A field's type is made of these, so that one walk over the models (:mod:`harness.spec.shape`)
knows which fields hold paths, which words describe them, and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.spec.duration import EXAMPLES, Duration, Unit

T = TypeVar("T")

COMPLAINT = "harness_complaint"
"""Type of the pydantic error that carries our own complaints (in its context)."""


@dataclass(frozen=True)
class Complaint:
    """A problem found by a check, ``path`` relative to the model that found it ("" is itself)."""

    path: str
    what: str
    got: str | None = None
    allowed: str | None = None
    action: str | None = None


def complain(*complaints: Complaint) -> PydanticCustomError:
    """The error that takes complaints through pydantic unharmed, to be raised by a validator."""
    return PydanticCustomError(COMPLAINT, "see context", {"complaints": complaints})


class SpecModel(BaseModel):
    """Strict, frozen, refuses unknown keys; subclasses yield cross-field problems in `checks`."""

    # Building is deferred: only the outermost model of a file is ever built as a validator.
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        defer_build=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )
    written: ClassVar[str] = ""  # how it is written, where that is not just a mapping

    def checks(self) -> Iterator[Complaint]:
        """Problems between this model's fields; run when each field by itself is valid."""
        return iter(())

    @model_validator(mode="after")
    def _run_checks(self) -> SpecModel:
        found = tuple(self.checks())
        if found:
            raise complain(*found)
        return self


def new(model: type[BaseModel], **values: Any) -> Any:
    """The default of a field that is a model, made when it is first needed.

    An instance made in the class body would have every model built as a validator of its own,
    which takes most of the time of an import.
    """
    return Field(default_factory=partial(model.model_construct, **values))


@dataclass(frozen=True)
class Words:
    """Describes what a text field takes, for error messages and docs."""

    text: str


@dataclass(frozen=True)
class IsPath:
    """Marks a text as a path, made absolute by the loader.

    ``kind`` is ``path``, ``handle`` (only plain paths and those behind ``hub:``,
    ``file:``, ``model:`` and ``run:`` are paths), ``image`` (what begins as an address does is no
    path), ``stage`` (only what holds a slash, or begins with ``~`` or ``$``), ``weights`` (all but
    ``imagenet`` and ``random``), ``plugin`` (only what ends in ``.py`` or holds a slash; the rest
    are entry points) or ``site`` (as plugin, with ``.yaml``).
    """

    kind: str = "path"


# Markers of the branches of a union; error locations hold them and lose them again.
MAPPING, SCALAR, LIST = "<mapping>", "<scalar>", "<list>"


def kind_of(value: Any) -> str:
    """Chooses the branch of a union by the form that the user wrote."""
    if isinstance(value, Mapping | BaseModel):
        return MAPPING
    return LIST if isinstance(value, list | tuple) else SCALAR


NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"

Many = Annotated[tuple[T, ...], Strict(False)]
"""A list in YAML, a tuple once loaded; only the container is lax (list to tuple)."""

Name = Annotated[
    str,
    Field(pattern=NAME_PATTERN, max_length=100),
    Words("letters, digits, '.', '_' and '-', not starting with '.' or '-', at most 100"),
]
Sha256 = Annotated[
    str, Field(pattern=r"^[0-9a-f]{64}$"), Words("a SHA-256 in 64 lower-case hexadecimal digits")
]
PathText = Annotated[str, Field(pattern=r"\S"), IsPath(), Words("a path")]
MetricName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$"),
    Words("the name of a metric, as val_accuracy or loss"),
]


def _to_duration(value: Any, *, units: tuple[Unit, ...], interval: bool) -> Duration:
    allowed = " or ".join(EXAMPLES[unit] for unit in units)
    if not isinstance(value, Duration | str):
        raise complain(
            Complaint("", "must be a number with its unit", show(value), allowed, "write the unit")
        )
    try:
        duration = value if isinstance(value, Duration) else Duration.parse(value)
    except ValueError as error:
        raise complain(Complaint("", str(error), show(value), allowed)) from None
    if duration.unit not in units:
        raise complain(Complaint("", "this unit does not fit here", show(value), allowed))
    if interval and duration.value == 0:
        raise complain(Complaint("", "a distance must be longer than 0", show(value), allowed))
    return duration


def as_text(value: Any) -> str:
    """str() as a function with a signature, which older validators ask for."""
    return str(value)


def _duration_marks(*units: Unit, interval: bool = False) -> tuple[Any, ...]:
    words = "text: " + " or ".join(EXAMPLES[unit] for unit in units)
    words += ", longer than 0" if interval else ""
    schema = {"type": "string", "description": words}
    return (
        PlainValidator(partial(_to_duration, units=units, interval=interval)),
        PlainSerializer(as_text, return_type=str),
        WithJsonSchema(schema),
        Words(words),
    )


_EVERY = _duration_marks("s", "steps", "epochs", interval=True)
_STEPS = _duration_marks("steps", "epochs", interval=True)
_TIME = _duration_marks("s", interval=True)
_PART = _duration_marks("steps", "epochs", "percent")
_PERCENT = _duration_marks("percent")

Every = Annotated[Duration, _EVERY[0], _EVERY[1], _EVERY[2], _EVERY[3]]
"""Distance between two events: a time, steps or epochs, longer than 0."""
EverySteps = Annotated[Duration, _STEPS[0], _STEPS[1], _STEPS[2], _STEPS[3]]
"""Distance between two events: steps or epochs, longer than 0."""
EveryTime = Annotated[Duration, _TIME[0], _TIME[1], _TIME[2], _TIME[3]]
"""Distance between two events: a time, longer than 0."""
Part = Annotated[Duration, _PART[0], _PART[1], _PART[2], _PART[3]]
"""Steps, epochs or a percentage of the whole."""
Percent = Annotated[Duration, _PERCENT[0], _PERCENT[1], _PERCENT[2], _PERCENT[3]]
"""A percentage."""


def _finite(value: Any) -> Any:
    """Refuses inf and nan wherever they stand: the digest's JSON has no such numbers."""
    inner = [value]
    while inner:
        one = inner.pop()
        if isinstance(one, float) and not math.isfinite(one):
            raise complain(Complaint("", "holds a number that is not finite", show(value)))
        if isinstance(one, dict | list | tuple):
            inner += one.values() if isinstance(one, dict) else one
    return value


Options = Annotated[dict[str, Any], AfterValidator(_finite)]
"""Free options of a plug-in: plain values only (the loader lets nothing else in)."""


class PluginRef(SpecModel):
    """A plug-in with its options, written `plugin:NAME` or `{plugin: NAME, options: {...}}`."""

    written: ClassVar[str] = "plugin:NAME or {plugin: NAME, options: {...}}"
    plugin: Name
    """Name under which the plug-in is registered, without `plugin:`."""
    options: Options = Field(default_factory=dict)
    """Options handed to the plug-in as they are."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            if not value.startswith("plugin:"):
                raise complain(Complaint("", "is not a plug-in", show(value), cls.written))
            return {"plugin": value.removeprefix("plugin:")}
        if isinstance(value, Mapping) and isinstance(value.get("plugin"), str):
            return {**value, "plugin": value["plugin"].removeprefix("plugin:")}
        return value


def show(value: Any, limit: int = 80) -> str:
    """A value as the user would write it in YAML, cut to ``limit`` characters."""
    if value is None:
        text = "null"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = repr(value[: limit + 1])
    elif isinstance(value, int | float | Duration):
        # A whole number of thousands of digits is refused by str().
        huge = isinstance(value, int) and value.bit_length() > 1024
        text = "a very large number" if huge else str(value)
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show(item, 20) for item in value[:8]) + "]"
    elif isinstance(value, Mapping):
        some = list(value.items())[:8]
        pairs = (f"{ascii(str(key)[:20])[1:-1]}: {show(item, 20)}" for key, item in some)
        text = "{" + ", ".join(pairs) + "}"
    else:
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."
