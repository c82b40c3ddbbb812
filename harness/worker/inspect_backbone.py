"""What a backbone takes and gives, its blocks, its size and its cost: looked at, not trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError, UsageError
from harness.spec.handles import archive_of
from harness.spec.keras_names import PIXELS, keras_name
from harness.spec.models_model import Backbone as BackboneSpec
from harness.worker.inspect import on_processor
from harness.worker.inspect_cost import batch_of, operations, scalars, seconds
from harness.worker.inspect_load import bring, load

if TYPE_CHECKING:
    import tensorflow as tf

    from harness.distribute.base import Distribution
    from harness.model.backbone import Backbone
    from harness.model.blocks import Takes
    from harness.spec import Spec, Trust

_SIDE, _SAMPLES = 224, 16_000
"""Of a picture and a recording where a backbone takes any and nobody has said one."""
_TOKENS = 32
"""Of a text where a backbone takes tokens, of any number."""


@dataclass(frozen=True)
class BlockFacts:
    """A block; ``trainable`` counts the scalars that can be trained of its ``parameters``."""

    name: str
    variables: int
    parameters: int
    trainable: int


@dataclass(frozen=True)
class BackboneFacts:
    """What is known of a backbone.

    ``preprocessor`` stands before it, and gives it ``tokens``.
    ``tried`` is one example that it was given; ``flops`` are multiplications and additions for it,
    None where TensorFlow's profiler counts none, and ``seconds`` the time of its forward pass on
    the processor, in a batch of eight.
    """

    handle: str
    digest: str | None
    preprocessor: str | None
    preprocessor_digest: str | None
    tokens: str | None
    takes: tuple[str, ...]
    tried: str
    gives: str
    pixels: str | None
    parameters: int
    trainable_parameters: int
    variables: int
    trainable_variables: int
    bytes: int
    flops: int | None
    seconds: float
    blocks: tuple[BlockFacts, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return dataclasses.asdict(self)


def is_backbone(text: str) -> bool:
    """Whether what is to be inspected is a backbone's handle, by its form or its files."""
    heads = ("https://", "hub:", "file:", "model:", "run:")
    if text.startswith(heads) or keras_name(text) is not None or archive_of(text) is not None:
        return True
    return any((Path(text) / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt"))


def inspect_backbone(
    wanted: BackboneSpec,
    trust: Trust,
    say: Callable[[str], None],
    size: int | None = None,
    spec: Spec | None = None,
) -> BackboneFacts:
    """Loads a backbone and looks at it.

    Args:
        size: height and width in pixels of the picture that it is tried on; None leaves it to the
            backbone, and is 224 where it takes any.
        spec: whose examples it is tried on instead.

    Raises:
        DataError: it is not there, not trusted, cannot be loaded, or does not take such an example.
        UsageError: what one example is cannot be told from it.
        EnvironmentNotAble: TensorFlow is not installed.
    """
    on_processor(say)
    from harness.distribute.choose import choose
    from harness.distribute.topology import Topology
    from harness.model.fit import ANY, check_fit
    from harness.model.pinned import check_digest
    from harness.model.pooling import pooling_after

    distribution = choose("single", "cpu", Topology()).distribution
    sizes = () if spec is None else spec.image_sizes()
    bring(wanted, sizes, say)
    with distribution.scope():
        pooling = ANY if spec is None else spec.head.pooling
        found = load(wanted, trust, pooling, sizes, distribution, say)
        if found.digest is not None:
            check_digest(found.digest, wanted.digest, wanted.handle, "the spec")
        takes = _example(found, size) if spec is None else _example_of(spec)
        if isinstance(takes, dict):
            _check_named(found, takes)
        else:
            check_fit(found.layer, takes, ANY if spec is None else pooling_after(spec))
        able = {id(variable) for variable in found.trainable()}
        blocks = _blocks(found, takes, distribution, able)
        return _facts(wanted, found, takes, blocks, len(able))


def _blocks(
    found: Backbone, takes: Takes, distribution: Distribution, able: set[int]
) -> tuple[BlockFacts, ...]:
    """The blocks, and of each what can be trained, which are the variables of these ids."""
    from harness.model.blocks import blocks_of

    return tuple(
        BlockFacts(
            block.name,
            len(block.variables),
            block.parameters,
            sum(scalars(v) for v in block.variables if id(v) in able),
        )
        for block in blocks_of(found.layer, takes, distribution)
    )


def _check_named(found: Backbone, takes: dict[str, tf.TensorSpec]) -> None:
    """Holds that a backbone can be called with what it says that it takes by name."""
    from harness.model.fit import first_line, in_words

    try:
        found.layer(batch_of(takes), training=False)
    except Exception as error:  # whatever is inside of it
        raise DataError(
            "the backbone cannot be called with what it says that it takes",
            got=first_line(error),
            allowed=in_words(takes),
            action="look at it with `saved_model_cli show --dir FOLDER --all`",
            path="backbone.handle",
        ) from error


def _example(found: Backbone, size: int | None) -> Takes:
    """One example, of what the backbone says that it takes."""
    import tensorflow as tf

    from harness.model.fit import accepted, named_inputs

    if found.preprocessor is not None:
        return tf.TensorSpec([], tf.string, _NAMES[0])
    own = found.handle.startswith("model:")
    forms = [] if keras_name(found.handle) is not None else named_inputs(found.layer)
    # A signature with one input is called with that alone.
    alone = own or getattr(found.layer, "_signature", None) is not None
    if forms and (len(forms[0]) > 1 or not alone):
        named = {name: one.shape.as_list()[1:] for name, one in forms[0].items()}
        return {
            name: tf.TensorSpec([side or _TOKENS for side in named[name]], one.dtype, name)
            for name, one in forms[0].items()
        }
    takes = list(forms[0].values()) if forms else accepted(found.layer)
    if keras_name(found.handle) is not None or own:
        takes = [tf.TensorSpec(found.layer.input_shape, tf.float32)]
    ranks = {spec.shape.rank for spec in takes}
    if len(ranks) != 1 or ranks == {None}:
        raise UsageError(
            "what one example is cannot be told from the backbone",
            got=", ".join(map(str, takes)) or "no signature of a call",
            action="name a spec with this backbone: harness inspect SPEC --backbone",
        )
    shape = takes[0].shape[1:].as_list()
    other = _SAMPLES if len(shape) == 1 else size or _SIDE
    sides = [other if side is None else side for side in shape[:-1] or shape]
    whole = sides if len(shape) < 2 else [*sides, 3 if shape[-1] is None else shape[-1]]
    return tf.TensorSpec(whole, takes[0].dtype, _NAMES.get(len(whole), "examples"))


_NAMES = {0: "texts", 1: "audio", 3: "images"}


def _example_of(spec: Spec) -> tf.TensorSpec:
    from harness.data.content import content_of_spec
    from harness.model.backbone import input_of

    return input_of(content_of_spec(spec).element(spec.image_size_of(0)))


def _facts(
    wanted: BackboneSpec,
    found: Backbone,
    takes: Takes,
    blocks: tuple[BlockFacts, ...],
    trainable: int,
) -> BackboneFacts:
    import tensorflow as tf

    from harness.model.fit import in_words

    variables = found.variables()
    call = tf.function(lambda examples: found.layer(examples, training=False))
    batch = batch_of(takes)
    name = keras_name(wanted.handle)
    before = getattr(found.layer, "prepare", None)
    return BackboneFacts(
        wanted.handle,
        found.digest,
        found.preprocessor,
        found.preprocessor_digest,
        in_words(before.gives()) if before is not None else None,
        _said(found, takes),
        _one(takes),
        _given(call(batch)),
        found.pixels if name is None else PIXELS[name],
        sum(scalars(v) for v in variables),
        sum(block.trainable for block in blocks),
        len(variables),
        trainable,
        sum(scalars(v) * v.dtype.size for v in variables),
        operations(call, takes),
        seconds(lambda: call(batch)),
        blocks,
    )


def _said(found: Backbone, takes: Takes) -> tuple[str, ...]:
    """What the backbone says that it takes, or what its layer does."""
    import tensorflow as tf

    from harness.model.fit import accepted, in_words, named_inputs, tensor_words

    if isinstance(takes, dict):
        return tuple(map(in_words, named_inputs(found.layer)))
    if found.preprocessor is not None:
        return ("string [batch]",)
    said = tuple(map(tensor_words, accepted(found.layer)))
    if getattr(found.layer, "_signature", None) is not None:
        said = tuple(map(in_words, named_inputs(found.layer)))
    shape = getattr(found.layer, "input_shape", None)
    return said or (tensor_words(tf.TensorSpec(shape, takes.dtype)),)


def _one(takes: Takes) -> str:
    """One example, in words."""
    named = takes if isinstance(takes, dict) else {"": takes}
    found = (f"{name} {one.dtype.name} {one.shape.as_list()}" for name, one in named.items())
    return ", ".join(map(str.strip, found))


def _given(features: Any) -> str:
    """What a backbone gave for a batch, in words."""
    from harness.model.fit import in_words, tensor_words

    return in_words(features) if isinstance(features, dict) else tensor_words(features)
