"""An encoder that takes tokens, with the preprocessor before it: together a backbone of texts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tensorflow as tf
import tf_keras

from harness.errors import DataError
from harness.model import backbone as backbones
from harness.model.backbone import Backbone, Called, Pinned
from harness.model.fit import (
    ANY,
    accepted,
    check_features,
    first_line,
    in_words,
    named_inputs,
    tensor_words,
)
from harness.model.own_model import own_path
from harness.model.pinned import check_digest, check_trusted, digest_of
from harness.model.pooling import pool_tokens
from harness.model.preprocessor import Preprocessor, load_preprocessor, with_length
from harness.model.role import PREPROCESSOR
from harness.model.wiring import Wiring, wire
from harness.spec import Trust
from harness.spec.handles import archive_of
from harness.spec.models_model import Backbone as BackboneSpec
from harness.tracing import as_written


class Encoded(tf_keras.layers.Layer):
    """Texts, string [b], to features [b, f], or [b, t, f] where nothing pools them.

    Its weights are those of the encoder alone.

    Args:
        prepare: makes the encoder's inputs of texts.
        encoder: takes them by name and gives a tensor, or several by name.
        wiring: which of them goes where.
        output: of several, the name of the one that is wanted; None takes what there is.
        pooling: ``average`` or ``max`` over the tokens of a text; None leaves the output as it is.
    """

    def __init__(
        self,
        prepare: Preprocessor,
        encoder: tf_keras.layers.Layer,
        wiring: Wiring,
        output: str | None,
        pooling: str | None,
    ) -> None:
        super().__init__(trainable=False, name="encoded")
        self.prepare, self.encoder, self.wiring = prepare, encoder, wiring
        self._output, self.pooling = output, pooling
        self._is_told = "training" in inspect.signature(encoder.call).parameters

    @as_written
    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """See the class."""
        tensors = self.prepare(inputs)
        found = self.encode(tensors, training)
        chosen = found if self._output is None else found[self._output]
        if self.pooling is None:
            return chosen
        assert self.wiring.mask is not None, "pooling was checked to know the mask"
        return pool_tokens(self.pooling, chosen, tensors[self.wiring.mask])

    def encode(self, tensors: Mapping[str, tf.Tensor], training: bool | None = None) -> Any:
        """Everything that the encoder gives for what the preprocessor gave."""
        more = {"training": training} if self._is_told else {}
        return self.encoder(self.wiring.apply(tensors), **more)

    @property
    def kept(self) -> list[Any]:
        """What an export has to hold beside the variables: functions with their tables."""
        function = getattr(self.encoder, "_func", None)
        return [self.prepare.kept] if function is None else [self.prepare.kept, function]


def load_module(
    wanted: BackboneSpec, pooling: str | None, pinned: Pinned, trust: Trust
) -> Backbone:
    """A SavedModel or a model of Keras, frozen, with its preprocessor before it, if it has one.

    Nothing is loaded before all of it is seen to be trusted and unchanged.

    Args:
        pooling: ``head.pooling``, which is inside of it where a preprocessor is.

    Raises:
        DataError: it is not there, not the one, not trusted, or the two do not fit each other.
        EnvironmentNotAble: it needs TensorFlow Text, which is not installed.
    """
    handle, before = wanted.handle, None
    folder, digest = backbones.located(handle)
    check_digest(digest, wanted.digest, handle, "the spec")
    check_digest(digest, pinned.backbone, handle, "the run")
    # Who owns the archive has decided what was unpacked from it.
    for source in filter(None, (folder, archive_of(handle))):
        check_trusted(source, digest, trust)
    if wanted.preprocessor is not None:
        place = backbones.locate(wanted.preprocessor, PREPROCESSOR)
        before = digest_of(place)
        check_digest(before, pinned.preprocessor, wanted.preprocessor, "the run", PREPROCESSOR)
        for source in filter(None, (place, archive_of(wanted.preprocessor))):
            check_trusted(source, before, trust, PREPROCESSOR)
    # With a preprocessor an output is chosen here, where all of them can be named.
    chosen = wanted.output if before is None or own_path(handle) is not None else None
    found = backbones.load_located(folder, handle, digest, Called(wanted.signature, chosen))
    if before is None:
        return found
    prepare = load_preprocessor(place, wanted.max_length)
    output = None if own_path(handle) is not None else wanted.output
    layer = encoded(found.layer, prepare, wanted.inputs, output, pooling)
    return replace(found, layer=layer, preprocessor=wanted.preprocessor, preprocessor_digest=before)


def encoded(
    encoder: tf_keras.layers.Layer,
    prepare: Preprocessor,
    named: Mapping[str, str] | None,
    output: str | None,
    pooling: str | None,
) -> Encoded:
    """Puts a preprocessor before an encoder, and tries the two together.

    Args:
        named: ``backbone.inputs``.
        output: ``backbone.output``.
        pooling: ``head.pooling``; :data:`harness.model.fit.ANY` where nobody has chosen it yet.

    Raises:
        DataError: they do not fit, or give no features that a head can be put on.
    """
    forms = named_inputs(encoder)
    if not forms:
        raise DataError(
            "the backbone takes no tensors by name, so no preprocessor fits it",
            got=" or ".join(map(tensor_words, accepted(encoder))) or "no signature of its call",
            allowed="a module that takes a dict, as of input_word_ids, input_mask, input_type_ids",
            action="remove backbone.preprocessor, or take another module or backbone.signature",
            path=PREPROCESSOR.field,
        )
    wiring = wire(prepare.gives(), forms, named)
    layer = Encoded(prepare, encoder, wiring, output, None if pooling == ANY else pooling)
    encoder.trainable = False
    tensors = _text(prepare, wiring)
    found = _tried(layer, tensors)
    chosen = _chosen(found, output)
    check_features(chosen, pooling)
    if layer.pooling is not None:
        _check_tokens(chosen, tensors, wiring)
    _check_vocabulary(layer, tensors)
    return layer


def _text(prepare: Preprocessor, wiring: Wiring) -> dict[str, tf.Tensor]:
    """What the encoder is given of a text that is as long as a text can be, if that is known; with
    tokens that it knows for sure."""
    tensors = _real_text(prepare)
    if wiring.tokens is not None:
        tensors[wiring.tokens] = tf.zeros_like(tensors[wiring.tokens])
    return tensors


def _real_text(prepare: Preprocessor) -> dict[str, tf.Tensor]:
    return prepare(tf.constant(["a " * (prepare.length or 1)]))


def _tried(layer: Encoded, tensors: Mapping[str, tf.Tensor]) -> Any:
    """What the encoder gives; of lengths that it does not take, the longest that it does is named.

    On a GPU a look-up beyond the end of a table gives zeros in place of an error.
    """
    try:
        return _called(layer, tensors)
    except Exception as error:
        prepare = layer.prepare
        length = prepare.length
        most = _longest(layer, length) if length is not None else 0
        if length is None or most == 0:
            raise DataError(
                "the backbone does not take what the preprocessor gives",
                got=f"{in_words(prepare.gives())}: {first_line(error)}",
                allowed=" or ".join(map(in_words, named_inputs(layer.encoder))),
                action="take the preprocessor that belongs to the module, or set "
                "backbone.max_length",
                path=PREPROCESSOR.field,
            ) from error
        raise DataError(
            "the backbone does not take such long texts",
            got=f"max_length: {length}: {first_line(error)}",
            allowed=f"at most {most}",
            action=f"set backbone.max_length: {most}, or less",
            path="backbone.max_length",
        ) from error


def _called(layer: Encoded, tensors: Mapping[str, tf.Tensor]) -> Any:
    """What the encoder gives, on the first of the devices."""
    strategy = tf.distribute.get_strategy()

    @tf.function
    @as_written
    def call(given: dict[str, tf.Tensor]) -> Any:
        # On a replica: outside of it a strategy's variables cannot be read by a restored function.
        encode = as_written(lambda one: layer.encode(one, training=False))
        return strategy.run(encode, args=(given,))

    found = call(dict(tensors))
    return tf.nest.map_structure(lambda each: strategy.experimental_local_results(each)[0], found)


def _longest(layer: Encoded, failed: int) -> int:
    """The longest text, in tokens, that the encoder takes, below one that it does not; 0: none."""
    takes, fails = 0, failed
    while fails - takes > 1:
        length = (takes + fails) // 2
        try:
            _called(layer, _text(with_length(layer.prepare, length), layer.wiring))
            takes = length
        except Exception:  # whatever such a text provokes
            fails = length
    return takes


def _check_vocabulary(layer: Encoded, tensors: Mapping[str, tf.Tensor]) -> None:
    """Holds that the encoder knows the last of the preprocessor's tokens, or those of a text where
    this does not tell how many it has: one of another language else fails late, or never."""
    size, name = layer.prepare.vocabulary(), layer.wiring.tokens
    if name is None:
        return  # so the tokens of a text have been tried already
    if size is None:
        size = int(tf.reduce_max(_real_text(layer.prepare)[name])) + 1
    last = tf.fill(tf.shape(tensors[name]), tf.cast(size - 1, tensors[name].dtype))
    try:
        _called(layer, {**tensors, name: last})
    except Exception as error:
        raise DataError(
            "the preprocessor has tokens that the backbone does not know",
            got=f"token {size - 1}: {first_line(error)}",
            allowed="a vocabulary of the module's size",
            action="take the preprocessor that belongs to the module",
            path=PREPROCESSOR.field,
        ) from error


def _chosen(found: Any, output: str | None) -> Any:
    """The output that is wanted of what an encoder gave.

    Raises:
        DataError: there is none of this name.
    """
    if output is None:
        return found
    if not isinstance(found, Mapping) or output not in found:
        several = isinstance(found, Mapping)
        raise DataError(
            "the backbone has no such output",
            got=output,
            allowed=in_words(found) if several else f"null: it gives {tensor_words(found)} alone",
            action="correct backbone.output" if several else "remove it",
            path="backbone.output",
        )
    return found[output]


def _check_tokens(chosen: Any, tensors: Mapping[str, tf.Tensor], wiring: Wiring) -> None:
    """Holds that an output has a place for each token, and that it is known where a text ends."""
    length = next(iter(tensors.values())).shape[1]
    if chosen.shape.rank != 3 or chosen.shape[1] != length:
        raise DataError(
            "the output has no place for each token, so there are none to pool",
            got=tensor_words(chosen),
            allowed=f"[batch, {length}, features]",
            action="choose another backbone.output, as sequence_output",
            path="head.pooling",
        )
    if wiring.mask is None:
        raise DataError(
            "it is not known which tokens are of the text and which only fill it up",
            got=f"the preprocessor gives {', '.join(sorted(tensors))}",
            allowed="a tensor input_mask, or one that goes to the backbone's attention_mask",
            action="choose an output that is a vector, as pooled_output, and remove head.pooling",
            path="head.pooling",
        )
