"""A BERT of some thousand weights and its preprocessor, in the forms that TensorFlow Hub has.

Plain TensorFlow operations make both: texts are split at spaces, and each word is a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

HUB_NAMES = ("input_word_ids", "input_mask", "input_type_ids")
OTHER_NAMES = ("input_ids", "attention_mask", "token_type_ids")
PADDING, UNKNOWN, START, END = range(4)
WIDTH, HEADS, LAYERS, POSITIONS = 32, 2, 2, 40


def write_preprocessor(
    folder: Path,
    words: Sequence[str],
    *,
    length: int = 16,
    halves: bool = True,
    names: Sequence[str] = HUB_NAMES,
    takes: tf.DType = tf.string,
) -> Path:
    """The module that https://www.tensorflow.org/hub/common_saved_model_apis/text describes.

    Args:
        length: tokens of a text where nobody says another.
        halves: whether it has ``tokenize`` and ``bert_pack_inputs``.
        takes: what it is called with; of another type than string it makes no sense.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    vocabulary = folder.parent / f"{folder.name}-vocabulary.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]) + "\n")
    table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        UNKNOWN,
    )  # fmt: skip

    def pieces(texts: tf.Tensor) -> tf.RaggedTensor:
        split = tf.strings.split(tf.strings.lower(texts))
        numbers = tf.cast(table.lookup(split.flat_values), tf.int32)
        # [b, words, pieces of a word], each of one piece
        return split.with_values(tf.RaggedTensor.from_uniform_row_length(numbers, 1))

    def packed(segments: list[tf.RaggedTensor], seq_length: Any) -> dict[str, tf.Tensor]:
        flat = segments[0].merge_dims(1, -1)[:, : seq_length - 2]
        start, end = (tf.fill([flat.nrows(), 1], number) for number in (START, END))
        whole = tf.concat([start, flat, end], axis=1)
        row = [[0, 0], [0, seq_length - tf.shape(whole.to_tensor())[1]]]
        ids = tf.pad(whole.to_tensor(PADDING), row)
        mask = tf.pad(tf.ones_like(whole).to_tensor(0), row)
        if isinstance(seq_length, int):
            ids, mask = (tf.ensure_shape(each, [None, seq_length]) for each in (ids, mask))
        return dict(zip(names, (ids, mask, tf.zeros_like(ids)), strict=True))

    module = tf.train.Checkpoint()
    module.table = table

    @tf.function(input_signature=[tf.TensorSpec([None], takes)])
    def call(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return packed(
            [pieces(texts if takes == tf.string else tf.strings.as_string(texts))], length
        )

    module.__call__ = call
    if halves:
        module.tokenize, module.bert_pack_inputs = tf.train.Checkpoint(), tf.train.Checkpoint()
        module.tokenize.__call__ = tf.function(
            pieces, input_signature=[tf.TensorSpec([None], tf.string)]
        )
        module.tokenize.get_special_tokens_dict = tf.train.Checkpoint()
        module.tokenize.get_special_tokens_dict.__call__ = tf.function(
            lambda: {"vocab_size": tf.constant(4 + len(words))}, input_signature=[]
        )

        @tf.function(autograph=False)
        def pack(inputs: list[tf.RaggedTensor], seq_length: Any = length) -> dict[str, tf.Tensor]:
            return packed(inputs, seq_length)

        segment = tf.RaggedTensorSpec([None, None, None], tf.int32)
        pack.get_concrete_function([segment], seq_length=tf.TensorSpec([], tf.int32))
        module.bert_pack_inputs.__call__ = pack
    tf.saved_model.save(module, str(folder))
    return folder


class Bert(tf.Module):
    """Tokens, mask and types, int [b, t], to ``sequence_output`` and ``pooled_output``."""

    def __init__(self, vocabulary: int, positions: int = POSITIONS, seed: int = 1) -> None:
        super().__init__(name="bert")
        self._drawn = 0

        def table(name: str, *shape: int, scale: float) -> tf.Variable:
            self._drawn += 1
            values = tf.random.stateless_normal(shape, (seed, self._drawn)) * scale
            return tf.Variable(values, name=f"bert/{name}")

        self.words = table("embeddings/words", vocabulary, WIDTH, scale=1.0)
        self.places = table("embeddings/position_embeddings", positions, WIDTH, scale=0.1)
        self.types = table("embeddings/types", 2, WIDTH, scale=0.1)
        self.parts = [
            {
                part: table(f"layer_{number}/{part}/kernel", *shape, scale=shape[0] ** -0.5)
                for part, shape in (
                    ("query", (WIDTH, WIDTH)), ("key", (WIDTH, WIDTH)), ("value", (WIDTH, WIDTH)),
                    ("inner", (WIDTH, 2 * WIDTH)), ("outer", (2 * WIDTH, WIDTH)),
                )
            }
            for number in range(LAYERS)
        ]  # fmt: skip
        self.pooler = table("pooler/kernel", WIDTH, WIDTH, scale=WIDTH**-0.5)

    def __call__(self, ids: tf.Tensor, mask: tf.Tensor, types: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.gather(self.words, ids) + tf.gather(self.types, types)
        x += tf.gather(self.places, tf.range(tf.shape(ids)[1]))
        away = (1.0 - tf.cast(mask, tf.float32)[:, None, None, :]) * -1e9
        for part in self.parts:
            x = _normed(x + self._attention(x, away, part))
            x = _normed(x + tf.nn.gelu(_product(x, part["inner"])) @ part["outer"])
        x = tf.ensure_shape(x, [None, None, WIDTH])
        pooled = tf.tanh(x[:, 0] @ self.pooler)
        return {"sequence_output": x, "pooled_output": pooled}

    def _attention(self, x: tf.Tensor, away: tf.Tensor, part: dict[str, tf.Variable]) -> tf.Tensor:
        shape = [tf.shape(x)[0], tf.shape(x)[1], HEADS, WIDTH // HEADS]
        query, key, value = (
            tf.transpose(tf.reshape(_product(x, part[name]), shape), [0, 2, 1, 3])
            for name in ("query", "key", "value")
        )
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) / 4.0 + away)
        return tf.reshape(tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3]), tf.shape(x))


def _product(x: tf.Tensor, kernel: tf.Variable) -> tf.Tensor:
    return tf.tensordot(x, kernel, 1)


def _normed(x: tf.Tensor) -> tf.Tensor:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-6)


def write_bert(
    folder: Path,
    vocabulary: int,
    *,
    names: Sequence[str] = HUB_NAMES,
    length: int | None = None,
    positions: int = POSITIONS,
    dtype: tf.DType = tf.int32,
    callable_: bool = True,
) -> Path:
    """Saves a :class:`Bert`, with a signature ``serving_default`` that gives the same.

    Args:
        vocabulary: numbers of tokens, those of the four special ones among them.
        names: of its inputs: tokens, mask, types.
        length: the only one that it takes; None takes any up to ``positions``.
        callable_: False leaves the signature alone, as exports of other libraries do.
    """
    bert = Bert(vocabulary, positions)
    takes = {name: tf.TensorSpec([None, length], dtype, name=name) for name in names}

    @tf.function(input_signature=[takes])
    def call(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return bert(*(tf.cast(inputs[name], tf.int32) for name in names))

    @tf.function
    def serve(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return call(inputs)

    module = tf.train.Checkpoint()
    if callable_:
        module.__call__ = call
        module.variables = list(bert.variables)
        module.trainable_variables = list(bert.trainable_variables)
        module.regularization_losses = []
    module.bert = bert
    signature = serve.get_concrete_function(**takes)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
    return folder


def write_whole(folder: Path, preprocessor: Path, bert: Path, output: str) -> Path:
    """Saves the two as one module that takes texts and gives ``output``."""
    before, encoder = tf.saved_model.load(str(preprocessor)), tf.saved_model.load(str(bert))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def call(texts: tf.Tensor) -> tf.Tensor:
        return encoder(before(texts))[output]

    module = tf.train.Checkpoint(before=before, encoder=encoder)
    module.__call__ = call
    module.variables, module.trainable_variables = encoder.variables, encoder.trainable_variables
    module.regularization_losses = []
    tf.saved_model.save(module, str(folder))
    return folder
