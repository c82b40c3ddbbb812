"""The module before an encoder: texts to the numbers of their tokens, in TensorFlow Hub's form.

Its form is https://www.tensorflow.org/hub/common_saved_model_apis/text: called with texts it gives
a dict of tensors [batch, length]; ``tokenize`` and ``bert_pack_inputs`` are its two halves, of
which the second takes another length as ``seq_length``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_hub as hub

from harness.errors import DataError
from harness.model.fit import accepted, first_line, in_words, tensor_words
from harness.model.role import PREPROCESSOR
from harness.model.saved import load_saved

_TRIED = ("a text", "Another one, which is longer and ends in a question?", "")
_HALVES = ("tokenize", "bert_pack_inputs")


class Preprocessor:
    """Texts, string [b], to what an encoder takes; nothing of it is ever trained.

    It is no layer on purpose: its variables, if it has any, are no weights of the model.

    Args:
        module: as loaded, which holds its tables; it is called as it is where ``length`` is None.
        length: tokens to which its second half fills up or cuts every text.
    """

    def __init__(self, module: Any, length: int | None = None) -> None:
        self.kept, self.length = module, length
        self.whole = hub.KerasLayer(module, trainable=False)
        self.has_halves = all(callable(getattr(module, name, None)) for name in _HALVES)
        self._halves: tuple[Callable[..., Any], ...] = ()
        if length is not None:
            arguments = {"seq_length": length}
            self._halves = (
                hub.KerasLayer(module.tokenize, trainable=False),
                hub.KerasLayer(module.bert_pack_inputs, trainable=False, arguments=arguments),
            )

    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """The tensors by name, each int [b, length]."""
        if self.length is None:
            return dict(self.whole(texts))
        tokenize, pack = self._halves
        shape = [None, self.length]
        packed = pack([tokenize(texts)])
        return {name: tf.ensure_shape(tensor, shape) for name, tensor in packed.items()}

    def takes(self) -> str:
        """What the module says that it takes, in words; empty where it says nothing."""
        return " or ".join(map(tensor_words, accepted(self.whole)))

    def vocabulary(self) -> int | None:
        """How many tokens there are; None where the module does not tell."""
        tokenize = getattr(self.kept, "tokenize", None)
        special = getattr(tokenize, "get_special_tokens_dict", None)
        found = special() if callable(special) else {}
        return int(found["vocab_size"]) if "vocab_size" in found else None

    def gives(self) -> dict[str, tf.TensorSpec]:
        """Types and shapes of what it gives; a length that hangs on the texts is None."""
        traced = tf.function(self.__call__).get_concrete_function(tf.TensorSpec([None], tf.string))
        found = traced.structured_outputs
        return {name: tf.TensorSpec(one.shape, one.dtype) for name, one in sorted(found.items())}


def load_preprocessor(folder: Path, max_length: int | None) -> Preprocessor:
    """Loads a preprocessor and tries it on some texts.

    Args:
        max_length: ``backbone.max_length``; None leaves it the length that it has.

    Raises:
        DataError: it cannot be loaded, takes no texts, gives something else than an encoder takes,
            or has a fixed length that is another.
        EnvironmentNotAble: it needs TensorFlow Text, which is not installed.
    """
    found = load_saved(folder, lambda: Preprocessor(hub.load(str(folder))), PREPROCESSOR)
    _try(found)
    own = {spec.shape[1] for spec in found.gives().values()}
    if max_length is None or own == {max_length}:
        return found
    if not found.has_halves:
        (length,) = own if len(own) == 1 else (None,)
        raise DataError(
            "the preprocessor has one length only",
            got=f"max_length: {max_length}; it gives {in_words(found.gives())}, and has no "
            f"{' and no '.join(_HALVES)}",
            allowed="null" if length is None else f"{length}, or null",
            action="leave backbone.max_length out, or take a preprocessor with these two",
            path="backbone.max_length",
        )
    return with_length(found, max_length)


def with_length(found: Preprocessor, length: int) -> Preprocessor:
    """The same with another length.

    Raises:
        DataError: it cannot cut texts to it.
    """
    other = Preprocessor(found.kept, length)
    try:
        tensors = other(tf.constant(_TRIED))
    except Exception as error:
        raise DataError(
            "the preprocessor cannot cut texts to this length",
            got=f"{length}: {first_line(error)}",
            allowed="a length that leaves room for a token beside those of beginning and end, and "
            "bert_pack_inputs that takes [tokenize(texts)] and seq_length",
            action="change backbone.max_length",
            path="backbone.max_length",
        ) from error
    _check(tensors)
    return other


def _try(found: Preprocessor) -> None:
    try:
        tensors = found.whole(tf.constant(_TRIED))
    except Exception as error:
        raise DataError(
            "the preprocessor takes no texts",
            got=found.takes() or first_line(error),
            allowed="a module that takes string [batch] and gives input_word_ids, input_mask and "
            "input_type_ids, or the like",
            action="set backbone.preprocessor to the module that belongs to the backbone",
            path=PREPROCESSOR.field,
        ) from error
    _check(tensors)


def _check(tensors: Any) -> None:
    """Holds that tensors are what an encoder takes: numbers [batch, length] by name."""
    is_dict = isinstance(tensors, Mapping) and len(tensors) > 0
    fits = is_dict and all(
        isinstance(one, tf.Tensor) and one.dtype.is_integer and one.shape.rank == 2
        for one in tensors.values()
    )
    if fits and len({tuple(one.shape) for one in tensors.values()}) == 1:
        return
    raise DataError(
        "the preprocessor does not give what an encoder takes",
        got=in_words(tensors) if is_dict else tensor_words(tensors),
        allowed="whole numbers [batch, length] by name: input_word_ids, input_mask, input_type_ids",
        action="set backbone.preprocessor to the module that belongs to the backbone",
        path=PREPROCESSOR.field,
    )
