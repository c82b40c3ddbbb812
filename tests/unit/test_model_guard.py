"""What is rewritten to 16 bits and what is not, in graphs as TensorFlow executes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
import tf_keras  # noqa: E402

from harness.distribute.units import cpu_flags  # noqa: E402
from harness.errors import SpecError  # noqa: E402
from harness.model.arithmetic import (  # noqa: E402
    REWRITERS,
    Counted,
    collected,
    computing_in,
    count,
    set_precision,
    tried,
)
from harness.model.guard import Barrier, LastDense, guard  # noqa: E402
from harness.model.norm import SyncBatchNorm  # noqa: E402
from harness.spec.models_training import Training  # noqa: E402
from harness.worker.precision import check_compiled  # noqa: E402

# TensorFlow's oneDNN kernels for bfloat16 need one of these, whether or not they are fast there.
BF16 = pytest.mark.skipif(
    cpu_flags().isdisjoint({"avx512f", "amx_bf16", "bf16"}),
    reason="TensorFlow does not compute in bfloat16 on this CPU",
)
X = np.random.default_rng(1).normal(size=(16, 64)).astype(np.float32)
Y = np.random.default_rng(2).normal(size=(16, 4)).astype(np.float32)


def model(last: tf_keras.layers.Layer) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(1)
    inputs = tf_keras.Input((64,))
    return tf_keras.Model(inputs, last(tf_keras.layers.Dense(4, name="hidden")(inputs)))


def trained(keras: tf_keras.Model, precision: str) -> tuple[float, list[Any], list[Any]]:
    """Loss, gradients and optimised graphs of a step of a regression, whose loss is all products
    and sums."""

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(keras(x) - y))
        return loss, tape.gradient(loss, keras.trainable_variables)

    with computing_in(precision), collected() as graphs:
        loss, gradients = step(tf.constant(X), tf.constant(Y))
    return float(loss), [each.numpy() for each in gradients], graphs


def dtypes(graphs: Iterable[Any], *ops: str) -> set[str]:
    nodes = [node for graph in graphs for node in graph.node if node.op in ops]
    assert nodes, f"no {ops}"
    return {tf.as_dtype(node.attr["T"].type).name for node in nodes}


LOSS = ("Sub", "Square", "Mean")


@BF16
def test_without_a_guard_the_loss_is_rewritten_too() -> None:
    *_, graphs = trained(model(Barrier()), "mixed_bfloat16")
    assert dtypes(graphs, *LOSS) == {"bfloat16"}


@BF16
def test_behind_a_barrier_it_is_not() -> None:
    keras = model(Barrier())
    guard(keras)
    *_, graphs = trained(keras, "mixed_bfloat16")
    assert dtypes(graphs, *LOSS) == {"float32"}
    assert dtypes(graphs, "MatMul", "_FusedMatMul") == {"bfloat16"}


@BF16
def test_the_last_layer_is_computed_in_full() -> None:
    """By its numbers too: what a graph shows is not all that is rewritten in the end."""
    keras = model(LastDense(4, name="last"))
    hidden = tf_keras.Model(keras.input, keras.get_layer("hidden").output)
    errors = {}
    for guarded in (False, True):
        if guarded:
            guard(keras)
        with computing_in("mixed_bfloat16"):
            features = tf.function(lambda x: hidden(x))(tf.constant(X)).numpy()
            logits = tf.function(lambda x: keras(x))(tf.constant(X)).numpy()
        kernel = keras.get_layer("last").kernel.numpy()
        errors[guarded] = np.abs(logits - features @ kernel).max()
    assert errors[True] < 1e-6 < 1e-3 < errors[False]
    _, _, graphs = trained(keras, "mixed_bfloat16")
    assert count(graphs) == Counted(low=2, all=5)
    assert dtypes(graphs, *LOSS) == {"float32"}


def test_guarded_it_gives_the_figures_of_the_plain_layer() -> None:
    plain, guarded = model(LastDense(4)), model(LastDense(4))
    guard(guarded)
    one, other = trained(plain, "float32"), trained(guarded, "float32")
    np.testing.assert_allclose(one[0], other[0], rtol=1e-6)
    for gradient, same in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(gradient, same, rtol=1e-4, atol=1e-6)


def test_in_float32_nothing_is_low() -> None:
    *_, graphs = trained(model(Barrier()), "float32")
    assert count(graphs).low == 0 < count(graphs).all


def test_products_are_counted_by_their_names() -> None:
    kinds = {
        "MatMul": 1, "_FusedMatMul": 1, "BatchMatMulV2": 1, "_FusedBatchMatMulV2": 1, "Einsum": 1,
        "Conv2D": 1, "_FusedConv2D": 1, "Conv2DBackpropInput": 1, "Conv2DBackpropFilter": 1,
        "Conv3DBackpropFilterV2": 1, "DepthwiseConv2dNative": 1,
        "DepthwiseConv2dNativeBackpropInput": 1, "_FusedDepthwiseConv2dNative": 1,
        "CudnnRNNBackpropV3": 1, "Mul": 0, "Conv2DSomething": 0, "MatMulShape": 0, "AddV2": 0,
    }  # fmt: skip
    graph = tf.compat.v1.GraphDef()
    for name in kinds:
        graph.node.add(op=name).attr["T"].type = tf.float16.as_datatype_enum
        graph.library.function.add().node_def.add(op=name).attr["T"].type = 1
        graph.node.add(op=name).attr["T"].type = tf.int32.as_datatype_enum
    assert count([graph]) == Counted(low=sum(kinds.values()), all=2 * sum(kinds.values()))
    assert Counted(0, 0).share == 0.0


@BF16
def test_this_machine_is_tried() -> None:
    assert tried("mixed_bfloat16") == Counted(2, 2)
    assert tried("float32") == Counted(0, 2)


def test_the_switches_are_set_one_at_a_time_and_put_back() -> None:
    def on() -> Counter[str]:
        known = tf.config.optimizer.get_experimental_options()
        return Counter(switch for switch in REWRITERS.values() if known.get(switch))

    assert not on()
    for precision, switch in REWRITERS.items():
        with computing_in(precision):
            assert on() == {switch: 1}
            with computing_in("float32"):
                assert not on()
            assert on() == {switch: 1}
    assert not on()
    with pytest.raises(ZeroDivisionError), computing_in("mixed_bfloat16"):
        1 / 0  # noqa: B018
    set_precision("float32")
    assert not on()


class _Alone:
    replicas = 1


def test_a_shared_normalisation_is_not_for_xla() -> None:
    keras = model(SyncBatchNorm(_Alone(), name="norm"))  # type: ignore[arg-type]
    training = Training(jit_compile=True)
    check_compiled(training, keras, 1)
    check_compiled(Training(), keras, 2)
    check_compiled(training, model(Barrier()), 2)
    with pytest.raises(SpecError, match="several replicas share, got norm with 2 replicas"):
        check_compiled(training, keras, 2)
