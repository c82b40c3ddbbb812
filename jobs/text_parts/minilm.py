"""The sentence encoder all-MiniLM-L6-v2 in TensorFlow, saved as a Hub module: texts to vectors.

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

import numpy as np
import tensorflow as tf
import tensorflow_text

LAYERS, WIDTH, HEADS = 6, 384, 12
TOKENS = 256
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

    def tokens(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Token numbers, int32 [b, t], and mask, float32 [b, t]; t is the longest text's."""
        pieces = self.tokenizer.tokenize(texts)
        # Words and their pieces: one row a text, whatever it was cut into.
        pieces = pieces.merge_dims(1, -1)[:, : TOKENS - 2]
        start, end = (tf.fill([pieces.nrows(), 1], number) for number in self._ends)
        whole = tf.concat([start, pieces, end], axis=1)
        mask = tf.sequence_mask(whole.row_lengths(), dtype=tf.float32)
        return whole.to_tensor(0), mask

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        numbers, mask = self.tokens(texts)
        w = self.weights
        x = tf.gather(w["embeddings.word_embeddings.weight"], numbers)
        x += w["embeddings.position_embeddings.weight"][: tf.shape(numbers)[1]]
        x += w["embeddings.token_type_embeddings.weight"][0]
        x = self._normalised(x, "embeddings.LayerNorm")
        away = (1.0 - mask[:, None, None, :]) * -1e9
        for layer in range(LAYERS):
            x = self._layer(x, away, f"encoder.layer.{layer}")
        mean = tf.reduce_sum(x * mask[:, :, None], 1) / tf.reduce_sum(mask, 1)[:, None]
        return tf.math.l2_normalize(mean, axis=1)

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

    module = tf.train.Checkpoint()
    module.__call__ = call
    module.variables = list(encoder.variables)
    module.trainable_variables = list(encoder.trainable_variables)
    module.regularization_losses = []
    module.tokenizer = encoder.tokenizer
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
