"""What a backbone takes and gives, its blocks, its size and its cost: looked at, not trained."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.runs.earlier import earlier_run, first_source, spec_of
from harness.spec.keras_names import PIXELS, keras_name
from harness.spec.models_model import Backbone as BackboneSpec
from harness.worker.backbones import bring_alone
from harness.worker.inspect import on_processor

if TYPE_CHECKING:
    import tensorflow as tf

    from harness.distribute.base import Distribution
    from harness.model.backbone import Backbone
    from harness.spec import Spec, Trust

_SIDE, _SAMPLES = 224, 16_000
"""Of a picture and a recording where a backbone takes any and nobody has said one."""
_BATCH, _TIMES = 8, 5


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

    ``tried`` is one example that it was given; ``flops`` are multiplications and additions for it,
    None where TensorFlow's profiler counts none, and ``seconds`` the time of its forward pass on
    the processor, in a batch of eight.
    """

    handle: str
    digest: str | None
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
    if text.startswith(("https://", "hub:", "model:", "run:")) or keras_name(text) is not None:
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
        UsageError: it takes several tensors, of which none is an example by itself.
        EnvironmentNotAble: TensorFlow is not installed.
    """
    on_processor(say)
    from harness.distribute.choose import choose
    from harness.distribute.topology import Topology
    from harness.model.blocks import blocks_of
    from harness.model.fit import ANY, check_fit
    from harness.model.pinned import check_digest
    from harness.model.pooling import pooling_after

    distribution = choose("single", "cpu", Topology()).distribution
    given = () if size is None else (size,)
    sizes = given if spec is None else spec.image_sizes()
    _bring(wanted, sizes, say)
    with distribution.scope():
        found = _load(wanted, trust, sizes, distribution, say)
        if found.digest is not None:
            check_digest(found.digest, wanted.digest, wanted.handle, "the spec")
        takes = _example(found, size) if spec is None else _example_of(spec)
        check_fit(found.layer, takes, ANY if spec is None else pooling_after(spec))
        able = {id(variable) for variable in found.trainable()}
        blocks = tuple(
            BlockFacts(
                block.name,
                len(block.variables),
                block.parameters,
                sum(_size(v) for v in block.variables if id(v) in able),
            )
            for block in blocks_of(found.layer, takes, distribution)
        )
        return _facts(wanted, found, takes, blocks, len(able))


def _bring(wanted: BackboneSpec, sizes: tuple[int, ...], say: Callable[[str], None]) -> None:
    """Has it in the cache where it is fetched, or that which the run of a run began with."""
    paths = earlier_run(wanted.handle)
    if paths is None:
        bring_alone(wanted, sizes, say)
    else:
        first = first_source(spec_of(paths))
        bring_alone(first.backbone, first.image_sizes(), say)


def _load(
    wanted: BackboneSpec,
    trust: Trust,
    sizes: tuple[int, ...],
    distribution: Distribution,
    say: Callable[[str], None],
) -> Backbone:
    from harness.model import backbone as backbones
    from harness.model.keras_apps import RANDOM, digest_of_weights, load_application
    from harness.model.pinned import check_trusted
    from harness.model.remote import IMAGENET

    name, handle = keras_name(wanted.handle), wanted.handle
    if name is not None:
        weights = wanted.weights or IMAGENET
        layer = load_application(name, weights, sizes)
        layer.trainable = False
        digest = None if weights == RANDOM else digest_of_weights(name, layer)
        return backbones.Backbone(handle, layer, digest, None)
    paths = earlier_run(handle)
    if paths is not None:
        from harness.worker.earlier import backbone_of_run

        return backbone_of_run(paths, wanted.output, sizes, trust, distribution, say)
    folder, digest = backbones.located(handle)
    check_trusted(folder, digest, trust)
    called = backbones.Called(wanted.signature, wanted.output)
    return backbones.load_located(folder, handle, digest, called)


def _example(found: Backbone, size: int | None) -> tf.TensorSpec:
    """One example, of what the backbone says that it takes."""
    import tensorflow as tf
    import tf_keras

    from harness.model.fit import accepted

    takes = accepted(found.layer)
    if isinstance(found.layer, tf_keras.Model):
        takes = [tf.TensorSpec(one.shape, one.dtype) for one in found.layer.inputs]
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
    takes: tf.TensorSpec,
    blocks: tuple[BlockFacts, ...],
    trainable: int,
) -> BackboneFacts:
    import tensorflow as tf

    from harness.model.fit import accepted

    variables = found.layer.weights
    call = tf.function(lambda examples: found.layer(examples, training=False))
    batch = _batch(takes)
    said = tuple(_words(spec) for spec in accepted(found.layer))
    name = keras_name(wanted.handle)
    return BackboneFacts(
        wanted.handle,
        found.digest,
        said or (_words(tf.TensorSpec(getattr(found.layer, "input_shape", None), takes.dtype)),),
        f"{takes.dtype.name} {takes.shape.as_list()}",
        _words(tf.TensorSpec([None, *call(batch).shape[1:]], tf.float32)),
        found.pixels if name is None else PIXELS[name],
        sum(_size(v) for v in variables),
        sum(block.trainable for block in blocks),
        len(variables),
        trainable,
        sum(_size(v) * v.dtype.size for v in variables),
        _flops(call, takes),
        _seconds(lambda: call(batch)),
        blocks,
    )


def _words(spec: tf.TensorSpec) -> str:
    sides = ["any" if side is None else str(side) for side in spec.shape.as_list()[1:]]
    return f"{spec.dtype.name} [{', '.join(['batch', *sides])}]"


def _batch(takes: tf.TensorSpec) -> Any:
    import tensorflow as tf

    if takes.dtype == tf.string:
        return tf.constant(["a sentence of seven words, or so"] * _BATCH)
    return tf.zeros([_BATCH, *takes.shape], takes.dtype)


def _flops(call: Any, takes: tf.TensorSpec) -> int | None:
    """Of one example, as TensorFlow's profiler counts those of a frozen graph."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    if takes.dtype == tf.string:
        return None  # how many hangs on the length of the text
    traced = call.get_concrete_function(tf.TensorSpec([1, *takes.shape], takes.dtype))
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # the profiler warns of what it uses itself
    frozen = convert_to_constants.convert_variables_to_constants_v2(traced)
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    quiet = options.with_empty_output().build()
    found = profiler.profile(frozen.graph, options=quiet)
    logger.setLevel(level)
    return int(found.total_float_ops) or None


def _seconds(forward: Callable[[], Any]) -> float:
    """For each example, the median of some forward passes after a first one."""
    times = []
    for _ in range(_TIMES + 1):
        began = time.perf_counter()
        forward()
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[_TIMES // 2] / _BATCH


def _size(variable: tf.Variable) -> int:
    return int(variable.shape.num_elements() or 0)
