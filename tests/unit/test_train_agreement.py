"""Replicas that are equal pass; one bit that differs is named, with its rank and variable."""

from __future__ import annotations

import numpy as np
import pytest
from ranks_in_threads import InThread, on_all

tf = pytest.importorskip("tensorflow")

from harness.distribute.single import SingleDevice  # noqa: E402
from harness.errors import ExitCode, TrainingError  # noqa: E402
from harness.train.agreement import _odd, check_equal  # noqa: E402


def variables() -> dict[str, tf.Variable]:
    return {
        "kernel": tf.Variable(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "nan": tf.Variable([np.nan, -0.0]),
        "step": tf.Variable(7, dtype=tf.int64),
        "empty": tf.Variable(tf.zeros([0, 3])),
        "half": tf.Variable([1.0, 2.0], dtype=tf.float16),
    }


def flip(variable: tf.Variable, bit: int = 0) -> None:
    """Changes one bit of the first element."""
    value = np.array(variable.numpy())
    value.reshape(-1).view(np.uint8)[bit // 8] ^= 1 << bit % 8
    variable.assign(value)


def checked(size: int, odd: dict[int, list[str]], bit: int = 0) -> list[str]:
    """What every rank says when those of ``odd`` have flipped a bit of these variables."""

    def call(rank: InThread) -> str:
        mine = variables()
        for name in odd.get(rank.topology.rank, []):
            flip(mine[name], bit)
        try:
            check_equal(rank, mine, "after step 5")
        except TrainingError as error:
            return error.problems[0].got or ""
        return "equal"

    return on_all(size, call)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_equal_ranks_pass(size: int) -> None:
    assert checked(size, {}) == ["equal"] * size


@pytest.mark.parametrize(
    ("size", "odd", "said"),
    [
        (2, {1: ["kernel"]}, "rank 1 of 2 in kernel"),
        (2, {0: ["kernel"]}, "rank 1 of 2 in kernel"),  # of two nobody knows: rank 0 is believed
        (5, {0: ["nan"]}, "rank 0 of 5 in nan"),
        (5, {3: ["step", "kernel"]}, "rank 3 of 5 in kernel, step"),
        (5, {1: ["half"], 4: ["kernel"]}, "rank 1, 4 of 5 in kernel, half"),
        (3, {0: ["half"], 1: ["half"]}, "rank 2 of 3 in half"),
        (2, {1: ["kernel", "nan", "step", "half"]}, "rank 1 of 2 in kernel, nan, step, half"),
    ],
)
def test_one_bit_is_found_and_named_on_all_ranks(
    size: int, odd: dict[int, list[str]], said: str
) -> None:
    assert checked(size, odd) == [said] * size


def test_the_sign_of_a_zero_counts() -> None:
    def call(rank: InThread) -> None:
        zero = -0.0 if rank.topology.rank == 1 else 0.0
        check_equal(rank, {"zero": tf.Variable([zero])}, "at the start")

    with pytest.raises(TrainingError, match="rank 1 of 3 in zero"):
        on_all(3, call)


def test_the_error_says_when_and_what_to_do() -> None:
    def call(rank: InThread) -> None:
        check_equal(rank, {"v": tf.Variable(float(rank.topology.rank))}, "after step 5")

    with pytest.raises(TrainingError, match="do not have the same weights after step 5") as raised:
        on_all(2, call)
    assert raised.value.exit_code == ExitCode.TRAINING_FAILED
    assert "go on from the last checkpoint" in str(raised.value)


def test_shape_and_dtype_count() -> None:
    def call(rank: InThread) -> None:
        shape = [2, 3] if rank.topology.is_first else [3, 2]
        check_equal(rank, {"same": tf.Variable(tf.zeros(shape))}, "at the start")

    with pytest.raises(TrainingError, match="in same"):
        on_all(2, call)


def test_a_variable_that_only_one_rank_has() -> None:
    def call(rank: InThread) -> None:
        more = {"more": tf.Variable(1.0)} if rank.topology.is_first else {}
        check_equal(rank, variables() | more, "at the start")

    with pytest.raises(TrainingError, match="rank 1 of 2 in more"):
        on_all(2, call)


def test_of_many_only_some_are_named() -> None:
    def call(rank: InThread) -> None:
        wrong = float(rank.topology.rank)
        check_equal(rank, {f"v{n}": tf.Variable(wrong) for n in range(8)}, "at the start")

    with pytest.raises(TrainingError, match="rank 1 of 2 in v0, v1, v2, v3, v4 and 3 more"):
        on_all(2, call)


def test_one_replica_is_not_looked_at() -> None:
    class Watched(SingleDevice):
        def copies(self, variable: tf.Variable) -> list[np.ndarray]:
            raise AssertionError("one replica costs nothing")

    check_equal(Watched(), variables(), "at the start")


def test_devices_of_one_process_are_named() -> None:
    """Over two real devices see ``tests/local/test_mirrored_steps.py``."""

    class TwoDevices(SingleDevice):
        replicas = 2

        def copies(self, variable: tf.Variable) -> list[np.ndarray]:
            mine = variable.numpy().copy()
            other = mine.copy()
            if variable.dtype == tf.int64:
                other += 1
            return [mine, other]

    with pytest.raises(TrainingError, match="step on device 1 of 2 of this process"):
        check_equal(TwoDevices(), variables(), "at the start")


@pytest.mark.parametrize(
    ("digests", "odd"),
    [
        ("a", []),
        ("aa", []),
        ("ab", [1]),
        ("abb", [0]),
        ("aabb", [2, 3]),
        ("abc", [1, 2]),
        ("cabba", [0, 2, 3]),
    ],
)
def test_who_is_odd(digests: str, odd: list[int]) -> None:
    found = _odd(list(digests))
    if digests == "cabba":  # two camps as large, neither the first's: either may be named
        assert found in ([0, 2, 3], [0, 1, 4])
    else:
        assert found == odd
