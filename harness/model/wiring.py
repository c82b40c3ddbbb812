"""Which tensor of a preprocessor goes to which input of an encoder: names, types and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from harness.errors import DataError
from harness.model.fit import in_words

Form = Mapping[str, tf.TensorSpec]

# Of TensorFlow Hub, of transformers, and others that are seen.
_ALIKE = (
    ("input_word_ids", "input_ids", "word_ids", "token_ids", "ids"),
    ("input_mask", "attention_mask", "padding_mask", "mask"),
    ("input_type_ids", "token_type_ids", "segment_ids", "type_ids"),
)
_TOKENS, _MASKS = _ALIKE[:2]
_FIELD = "backbone.inputs"


@dataclass(frozen=True)
class Wire:
    """A tensor of the preprocessor, the input that it goes to, and the type that this has."""

    source: str
    target: str
    dtype: tf.DType


@dataclass(frozen=True)
class Wiring:
    """Everything that an encoder is given.

    ``tokens`` and ``mask`` are the preprocessor's names of the tensors of token numbers, and of
    that which is 1 where a token is; None where none is known to be it.
    """

    wires: tuple[Wire, ...]
    tokens: str | None
    mask: str | None

    def apply(self, tensors: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """What the encoder is given of the preprocessor's tensors."""
        return {wire.target: tf.cast(tensors[wire.source], wire.dtype) for wire in self.wires}


def wire(gives: Form, forms: Sequence[Form], named: Mapping[str, str] | None) -> Wiring:
    """Joins a preprocessor to an encoder.

    Args:
        gives: the preprocessor's tensors by name, with a side for the batch.
        forms: in which the encoder takes tensors by name, one or more.
        named: ``backbone.inputs``: its inputs by the preprocessor's names; None where both have
            the same names.

    Raises:
        DataError: names, types or lengths do not fit.
    """
    if named is None:
        form = next((form for form in forms if form.keys() == gives.keys()), None)
        if form is None:
            raise _unlike(gives, forms[0])
        named = {name: name for name in form}
    else:
        form = _named_form(gives, forms, named)
    _check_types(gives, form, named)
    # One of the same names that was traced for this length, if there is one.
    alike = [each for each in forms if each.keys() == form.keys()]
    form = next((each for each in alike if not _misfits(gives, each, named)), form)
    for source, target in _misfits(gives, form, named):
        raise _misfit(source, gives[source], target, form[target])
    wires = tuple(Wire(ours, theirs, form[theirs].dtype) for ours, theirs in named.items())
    return Wiring(wires, *(_known(group, gives, named) for group in (_TOKENS, _MASKS)))


def _known(group: Sequence[str], gives: Form, named: Mapping[str, str]) -> str | None:
    """The preprocessor's tensor that has such a name, or that goes to an input that has."""
    found = [ours for ours in gives if ours in group]
    found += [ours for ours, theirs in named.items() if theirs in group]
    return found[0] if found else None


def proposal(gives: Form, form: Form) -> str | None:
    """What ``backbone.inputs`` is surely to be, as it is written; None where that is not plain."""
    found = {}
    for target in form:
        group = next((group for group in _ALIKE if target in group), (target,))
        sources = [name for name in gives if name in group]
        if len(sources) != 1 or sources[0] in found:
            return None
        found[sources[0]] = target
    return "{" + ", ".join(f"{ours}: {theirs}" for ours, theirs in sorted(found.items())) + "}"


def _both(gives: Form, form: Form) -> str:
    return f"the preprocessor gives {in_words(gives)}; the backbone takes {in_words(form)}"


def _next(gives: Form, form: Form) -> str:
    found = proposal(gives, form)
    if found is None:
        return "set backbone.inputs, or take the preprocessor that belongs to the module"
    return f"set backbone.inputs: {found}"


def _unlike(gives: Form, form: Form) -> DataError:
    return DataError(
        "the preprocessor and the backbone do not have the same names",
        got=_both(gives, form),
        allowed="the same names, or backbone.inputs with those of the backbone by those of the "
        "preprocessor",
        action=_next(gives, form),
        path=_FIELD,
    )


def _named_form(gives: Form, forms: Sequence[Form], named: Mapping[str, str]) -> Form:
    """The form that ``named`` fills."""
    targets = set(named.values())
    form = next((form for form in forms if form.keys() == targets), None)
    absent = [ours for ours in named if ours not in gives]
    if absent:
        what = f"the preprocessor gives no tensor {', '.join(absent)}"
    elif form is None and (odd := sorted(targets - forms[0].keys())):
        what = f"the backbone has no input {', '.join(odd)}"
    elif form is None:
        what = f"the backbone's input {', '.join(sorted(forms[0].keys() - targets))} gets nothing"
    else:
        return form
    raise DataError(
        what,
        got=", ".join(f"{ours}: {theirs}" for ours, theirs in named.items()),
        allowed=_both(gives, forms[0]),
        action=_next(gives, forms[0]),
        path=_FIELD,
    )


def _check_types(gives: Form, form: Form, named: Mapping[str, str]) -> None:
    """Holds that types are the same, or both of whole numbers: these hold every token."""
    for ours, theirs in named.items():
        given, wanted = gives[ours], form[theirs]
        if given.dtype != wanted.dtype and not (given.dtype.is_integer and wanted.dtype.is_integer):
            raise DataError(
                f"the backbone's input {theirs} is of another type",
                got=f"{given.dtype.name} of the preprocessor's {ours}",
                allowed=wanted.dtype.name,
                action="take the preprocessor that belongs to the module, or correct "
                "backbone.inputs",
                path=_FIELD,
            )


def _misfits(gives: Form, form: Form, named: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        (ours, theirs) for ours, theirs in named.items() if not _fits(gives[ours], form[theirs])
    ]


def _fits(given: tf.TensorSpec, wanted: tf.TensorSpec) -> bool:
    """Whether each side that the encoder fixes is that of the preprocessor, which must be known."""
    if wanted.shape.rank is None:
        return True
    if wanted.shape.rank != given.shape.rank:
        return False
    sides = zip(given.shape[1:], wanted.shape[1:], strict=True)
    return all(side is None or own == side for own, side in sides)


def _misfit(ours: str, given: tf.TensorSpec, theirs: str, wanted: tf.TensorSpec) -> DataError:
    length = wanted.shape[1] if wanted.shape.rank == 2 else None
    return DataError(
        "the backbone takes texts of another length"
        if length is not None
        else f"the backbone's input {theirs} has another shape",
        got=f"the preprocessor gives {in_words({ours: given})}",
        allowed=in_words({theirs: wanted}),
        action=f"set backbone.max_length: {length}"
        if length is not None
        else "take the preprocessor that belongs to the module",
        path="backbone.preprocessor" if length is None else "backbone.max_length",
    )
