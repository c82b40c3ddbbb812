"""The sentence encoder all-MiniLM-L6-v2 in TensorFlow, saved as a Hub module: texts to vectors, or
as two: texts to tokens, and tokens to vectors.

Architecture: BERT (Devlin et al. 2018) with 6 layers of width 384, distilled as in Wang et al.
2020 ("MiniLM"), trained for sentences as in Reimers and Gurevych 2019 ("Sentence-BERT"): the mean
over the tokens, scaled to length 1.  The tokenizer is BERT's, uncased, as TensorFlow Text has it;
a text is cut to 256 tokens, as its authors do.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text

LAYERS, WIDTH, HEADS = 6, 384, 12
TOKENS = 256
USUAL_TOKENS = 128
"""Of the preprocessor where nobody says another length, as those of TensorFlow Hub."""
EPSILON = 1e-12
START, END = "[CLS]", "[SEP]"


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The float32 arrays of a safetensors file by name; those of other kinds are left out.

    The form: eight bytes with the length of a JSON header, the header, the arrays.

    Raises:
        ValueError: it is no such file.
    """
    size = struct.unpack_from("<Q", data)[0] if len(data) > 8 else 0
    if not 2 <= size <= len(data) - 8:
        raise ValueError(f"no safetensors file: a header of {size} in {len(data)} bytes")
    header, body, found = json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :], {}
    for name, of in header.items():
        if name != "__metadata__" and of["dtype"] == "F32":
            start, end = of["data_offsets"]
            found[name] = np.frombuffer(body[start:end], "<f4").reshape(of["shape"])
    return found


class Encoder(tf.Module):
    """Texts, string [b], to vectors, float32 [b, 384] of length 1.

    Args:
        named: arrays by the names that they have in the file of weights.
        vocabulary: the tokens in their order.

    Raises:
        KeyError: an array is missing.
    """

    def __init__(self, named: dict[str, np.ndarray], vocabulary: Sequence[str]) -> None:
        super().__init__(name="minilm")
        self.tokenizer = tensorflow_text.FastBertTokenizer(
            vocab=list(vocabulary),
            token_out_type=tf.int32,
            lower_case_nfd_strip_accents=True,
        )
        self._ends = tuple(vocabulary.index(token) for token in (START, END))
        wanted = [name for name in named if name.startswith(("embeddings.", "encoder."))]
        self.weights = {name: tf.Variable(named[name], name=name) for name in wanted}

    def whole(self, pieces: tf.RaggedTensor, length: Any) -> tf.RaggedTensor:
        """Token numbers of each text with those of beginning and end, int32 [b, up to length].

        Args:
            pieces: [b, pieces], or [b, words, pieces of a word].
        """
        # One row a text, whatever it was cut into.
        pieces = pieces.merge_dims(1, -1)[:, : length - 2]
        start, end = (tf.fill([pieces.nrows(), 1], number) for number in self._ends)
        return tf.concat([start, pieces, end], axis=1)

    def packed(self, pieces: tf.RaggedTensor, length: Any) -> dict[str, tf.Tensor]:
        """The encoder's inputs as TensorFlow Hub names them, int32 [b, length]."""
        numbers = self.whole(pieces, length)
        ids = numbers.to_tensor(0)
        ids = tf.pad(ids, [[0, 0], [0, length - tf.shape(ids)[1]]])
        mask = tf.sequence_mask(numbers.row_lengths(), length, dtype=tf.int32)
        return {"input_word_ids": ids, "input_mask": mask, "input_type_ids": tf.zeros_like(ids)}

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        numbers = self.whole(self.tokenizer.tokenize(texts), TOKENS)
        mask = tf.sequence_mask(numbers.row_lengths(), dtype=tf.float32)
        ids = numbers.to_tensor(0)
        return self.mean(self.sequence(ids, mask, tf.zeros_like(ids)), mask)

    def mean(self, sequence: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """[b, t, 384] to [b, 384]: the mean over the tokens of each text, of length 1."""
        mean = tf.reduce_sum(sequence * mask[:, :, None], 1) / tf.reduce_sum(mask, 1)[:, None]
        return tf.math.l2_normalize(mean, axis=1)

    def sequence(self, numbers: tf.Tensor, mask: tf.Tensor, types: tf.Tensor) -> tf.Tensor:
        """Of each token a vector, float32 [b, t, 384]; the mask is float32 [b, t]."""
        w = self.weights
        x = tf.gather(w["embeddings.word_embeddings.weight"], numbers)
        x += w["embeddings.position_embeddings.weight"][: tf.shape(numbers)[1]]
        x += tf.gather(w["embeddings.token_type_embeddings.weight"], types)
        x = self._normalised(x, "embeddings.LayerNorm")
        away = (1.0 - mask[:, None, None, :]) * -1e9
        for layer in range(LAYERS):
            x = self._layer(x, away, f"encoder.layer.{layer}")
        return x

    def _layer(self, x: tf.Tensor, away: tf.Tensor, name: str) -> tf.Tensor:
        attended = self._dense(self._attention(x, away, name), f"{name}.attention.output.dense")
        x = self._normalised(x + attended, f"{name}.attention.output.LayerNorm")
        inner = tf.nn.gelu(self._dense(x, f"{name}.intermediate.dense"), approximate=False)
        return self._normalised(
            x + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _attention(self, x: tf.Tensor, away: tf.Tensor, name: str) -> tf.Tensor:
        def heads(what: str) -> tf.Tensor:  # [b, heads, t, width of a head]
            values = self._dense(x, f"{name}.attention.self.{what}")
            shape = [tf.shape(x)[0], tf.shape(x)[1], HEADS, WIDTH // HEADS]
            return tf.transpose(tf.reshape(values, shape), [0, 2, 1, 3])

        scores = tf.matmul(heads("query"), heads("key"), transpose_b=True)
        scores = tf.nn.softmax(scores / (WIDTH // HEADS) ** 0.5 + away)
        mixed = tf.transpose(tf.matmul(scores, heads("value")), [0, 2, 1, 3])
        return tf.reshape(mixed, tf.shape(x))

    def _dense(self, x: tf.Tensor, name: str) -> tf.Tensor:
        # torch keeps the weights of a dense layer as [out, in].
        kernel = self.weights[f"{name}.weight"]
        flat = tf.reshape(x, [-1, kernel.shape[1]])
        y = tf.matmul(flat, kernel, transpose_b=True) + self.weights[f"{name}.bias"]
        return tf.reshape(y, [tf.shape(x)[0], tf.shape(x)[1], kernel.shape[0]])

    def _normalised(self, x: tf.Tensor, name: str) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        scale = self.weights[f"{name}.weight"] * tf.math.rsqrt(variance + EPSILON)
        return (x - mean) * scale + self.weights[f"{name}.bias"]


def save_as_hub_module(encoder: Encoder, folder: Path) -> None:
    """Writes the reusable SavedModel that ``hub.KerasLayer`` loads, trainable or not.

    It has what https://www.tensorflow.org/hub/reusable_saved_models asks for, and a
    ``serving_default`` signature for everyone else.  Who loads it needs TensorFlow Text.
    """
    texts = tf.TensorSpec([None], tf.string, name="inputs")

    @tf.function(input_signature=[texts])
    def call(inputs: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(encoder(inputs), [None, WIDTH])

    @tf.function(input_signature=[texts])
    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": call(inputs)}

    module = _reusable(call, encoder)
    module.tokenizer = encoder.tokenizer
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Writes what comes after a preprocessor: tokens, int32 [b, t], by the names of TensorFlow Hub,
    to ``pooled_output``, float32 [b, 384], and ``sequence_output``, float32 [b, t, 384].

    Who loads it does not need TensorFlow Text.
    """
    names = ("input_word_ids", "input_mask", "input_type_ids")
    takes = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in names}

    @tf.function(input_signature=[takes])
    def call(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        numbers, mask, types = (inputs[name] for name in names)
        mask = tf.cast(mask, tf.float32)
        sequence = tf.ensure_shape(encoder.sequence(numbers, mask, types), [None, None, WIDTH])
        return {"pooled_output": encoder.mean(sequence, mask), "sequence_output": sequence}

    tf.saved_model.save(_reusable(call, encoder), str(folder))


def save_preprocessor(encoder: Encoder, folder: Path) -> None:
    """Writes the other half: texts, string [b], to the tokens that :func:`save_encoder` takes.

    It has the form that https://www.tensorflow.org/hub/common_saved_model_apis/text asks for:
    ``tokenize``, and ``bert_pack_inputs`` with any ``seq_length``.
    """
    texts = tf.TensorSpec([None], tf.string, name="inputs")

    @tf.function(input_signature=[texts])
    def call(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found = encoder.packed(encoder.tokenizer.tokenize(inputs), USUAL_TOKENS)
        shape = [None, USUAL_TOKENS]
        return {name: tf.ensure_shape(tensor, shape) for name, tensor in found.items()}

    @tf.function(input_signature=[texts])
    def tokenize(inputs: tf.Tensor) -> tf.RaggedTensor:
        return encoder.tokenizer.tokenize(inputs)

    @tf.function(autograph=False)
    def pack(inputs: list[tf.RaggedTensor], seq_length: Any = USUAL_TOKENS) -> dict[str, tf.Tensor]:
        return encoder.packed(inputs[0], seq_length)

    for shape in ([None, None], [None, None, None]):  # of pieces, and of pieces by word
        segment = tf.RaggedTensorSpec(shape, tf.int32)
        pack.get_concrete_function([segment], seq_length=tf.TensorSpec([], tf.int32))
    module = tf.train.Checkpoint()
    module.__call__ = call
    module.tokenize, module.bert_pack_inputs = tf.train.Checkpoint(), tf.train.Checkpoint()
    module.tokenize.__call__, module.bert_pack_inputs.__call__ = tokenize, pack
    size = encoder.weights["embeddings.word_embeddings.weight"].shape[0]
    special = module.tokenize.get_special_tokens_dict = tf.train.Checkpoint()
    special.__call__ = tf.function(lambda: {"vocab_size": tf.constant(size)}, input_signature=[])
    module.tokenizer = encoder.tokenizer
    tf.saved_model.save(module, str(folder))


def _reusable(call: Any, encoder: Encoder) -> tf.train.Checkpoint:
    module = tf.train.Checkpoint()
    module.__call__ = call
    module.variables = list(encoder.variables)
    module.trainable_variables = list(encoder.trainable_variables)
    module.regularization_losses = []
    return module
