"""Blocks of a backbone, what of them a phase unfreezes, and the order of their use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")
import tf_keras  # noqa: E402

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.errors import ExitCode, SpecError  # noqa: E402
from harness.model.blocks import Block, block_name, blocks_of, group  # noqa: E402
from harness.model.graph_order import first_uses  # noqa: E402
from harness.model.unfreeze import unfrozen  # noqa: E402

FIELD = "training.phases.1.unfreeze"


def variable(name: str, size: int = 1) -> Any:
    return SimpleNamespace(name=f"{name}:0", shape=tf.TensorShape([size]))


def names(blocks: Any) -> list[tuple[str, int]]:
    return [(block.name, len(block.variables)) for block in blocks]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("block_16_project/kernel", "block_16"),
        ("block6d_expand_conv/kernel", "block6d"),
        ("conv5_block16_2_conv/kernel", "conv5"),
        ("bert/layer_3/output/dense/bias", "bert/layer_3"),
        ("encoder.layer.11.attention.query.weight", "encoder.layer.11"),
        ("expanded_conv_16/project/weights", "expanded_conv_16"),
        ("batch_normalization_93/gamma", "batch_normalization_93"),
        ("expanded_conv_depthwise/depthwise_kernel", "expanded_conv_depthwise"),
        ("embeddings.word_embeddings.weight", "embeddings.word_embeddings"),
        ("table", "table"),
        ("conv2d/kernel", "conv2d"),  # the 2 is no number of its own
    ],
)
def test_the_block_of_a_variable(name: str, block: str) -> None:
    assert block_name(name) == block


def test_blocks_follow_the_depths_and_norms_follow_their_layers() -> None:
    found = group(
        [
            variable("net/a_last/kernel"),
            variable("net/z_first/kernel"),
            variable("net/norm_of_z/gamma"),
            variable("net/norm_of_z/moving_mean"),
            variable("net/block_1_conv/kernel"),
            variable("net/block_1_BN/beta"),
            variable("net/unused/kernel"),
        ],
        [9, 1, 2, 2, 5, 6, 0],
    )
    assert names(found) == [("unused", 1), ("z_first", 3), ("block_1", 2), ("a_last", 1)]


def test_no_variables_make_no_blocks() -> None:
    assert group([], []) == ()


def test_norms_of_pytorch_follow_too() -> None:
    found = group(
        [variable("words.weight"), variable("LayerNorm.weight"), variable("LayerNorm.bias")],
        [1, 2, 3],
    )
    assert names(found) == [("words", 3)]


class Shortcut(tf_keras.Model):
    """Names against the order of use, a way around, and layers inside of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.late = tf_keras.layers.Dense(4, name="a_late")
        self.middle = tf_keras.layers.Dense(4, name="b_middle")
        self.early = tf_keras.layers.Dense(4, name="c_early")

    @tf.function
    def _middle(self, x: tf.Tensor) -> tf.Tensor:
        return self.middle(tf.nn.relu(x))

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = self.early(inputs)
        return self.late(x + self._middle(x))


def test_blocks_are_ordered_by_their_first_use(tmp_path: Any) -> None:
    layer = Shortcut()
    takes = tf.TensorSpec([3], tf.float32)
    layer(tf.zeros([1, 3]))
    found = blocks_of(layer, takes, SingleDevice())
    order = [(name.rpartition("/")[2], count) for name, count in names(found)]
    assert order == [("c_early", 2), ("b_middle", 2), ("a_late", 2)]


def test_a_loop_and_a_source_that_meets_nothing() -> None:
    @tf.function
    def call(x: tf.Tensor, one: tf.Tensor, idle: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(3):
            x = x + one
        return x * tf.cast(tf.size(x) + 0, tf.float32)

    spec = tf.TensorSpec([2], tf.float32)
    traced = call.get_concrete_function(spec, spec, spec)
    entry, one, idle = (tensor.op.name for tensor in traced.inputs[:3])
    found = first_uses(traced.graph.as_graph_def(), [entry], [one, idle])
    assert found.keys() == {one}
    assert found[one] >= 1


# What is unfrozen.

BLOCKS = tuple(
    Block(name, tuple(tf.Variable(tf.zeros([size]), name=f"{name}/{leaf}") for leaf in ("w", "b")))
    for name, size in (("one", 1), ("two", 2), ("three", 3), ("four", 4))
)
EVERYTHING = [variable for block in BLOCKS for variable in block.variables]


@pytest.mark.parametrize(
    ("text", "blocks", "variables"),
    [
        ("none", (), 0),
        ("last:1", ("four",), 2),
        ("last:3", ("two", "three", "four"), 6),
        ("all", ("one", "two", "three", "four"), 8),
        ("40%", ("four",), 2),
        ("70%", ("three", "four"), 4),
        ("99%", ("two", "three", "four"), 6),
        ("100%", ("one", "two", "three", "four"), 8),
        ("1%", ("four",), 2),  # never nothing
        ("^t", ("two", "three"), 4),
        ("(two|four)/b$", ("two", "four"), 2),
    ],
)
def test_what_is_unfrozen(text: str, blocks: tuple[str, ...], variables: int) -> None:
    found = unfrozen(text, BLOCKS, EVERYTHING, FIELD)
    assert found.blocks == blocks
    assert len(found.variables) == len(found.distance) == variables
    assert list(found.distance) == sorted(found.distance, reverse=True)
    if text in ("all", "last:1"):
        assert found.distance[-1] == 0


def test_what_cannot_be_trained_is_not_counted() -> None:
    able = [*BLOCKS[0].variables, BLOCKS[2].variables[0]]
    assert unfrozen("all", BLOCKS, able, FIELD).blocks == ("one", "three")
    assert unfrozen("last:2", BLOCKS, able, FIELD).distance == (1, 1, 0)
    with pytest.raises(SpecError, match="2 blocks"):
        unfrozen("last:3", BLOCKS, able, FIELD)


@pytest.mark.parametrize(
    ("text", "able", "words"),
    [
        ("last:99", EVERYTHING, "4 blocks.*last:99.*last:1 to last:4.*harness inspect"),
        ("nowhere", EVERYTHING, "no variable.*nowhere.*(one|two|three|four)/"),
        ("all", [], "nothing that can be trained.*none with this module"),
    ],
)
def test_what_means_nothing_is_an_error_of_the_spec(text: str, able: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        unfrozen(text, BLOCKS, able, FIELD)
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.problems[0].path == FIELD


@given(st.floats(0.01, 100), st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_a_share_is_the_longest_end_that_fits(percent: float, sizes: list[int]) -> None:
    blocks = tuple(Block(str(at), (variable(f"{at}/w", size),)) for at, size in enumerate(sizes))
    text = f"{percent:.4f}%"
    found = unfrozen(text, blocks, [block.variables[0] for block in blocks], FIELD)
    number, room = len(found.blocks), float(text[:-1]) / 100 * sum(sizes)
    assert number >= 1
    assert found.blocks == tuple(map(str, range(len(sizes))))[-number:]
    if number > 1:
        assert sum(sizes[-number:]) <= room + 1e-9
    if number < len(sizes):
        assert sum(sizes[-number - 1 :]) > room - 1e-9
