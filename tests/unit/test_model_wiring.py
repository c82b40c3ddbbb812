"""Names, types and lengths of a preprocessor's tensors against those of an encoder's inputs."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from harness.errors import DataError  # noqa: E402
from harness.model.pooling import pool_tokens  # noqa: E402
from harness.model.wiring import proposal, wire  # noqa: E402

HUB = ("input_word_ids", "input_mask", "input_type_ids")
OTHER = ("input_ids", "attention_mask", "token_type_ids")
JOINED = dict(zip(HUB, OTHER, strict=True))


def form(names=HUB, length=16, dtype=tf.int32):
    return {name: tf.TensorSpec([None, length], dtype) for name in names}


@pytest.mark.parametrize(
    ("takes", "named"),
    [
        (form(), None),
        (form(length=None), None),
        (form(OTHER), JOINED),
        (form(OTHER[:2], None, tf.int64), dict(list(JOINED.items())[:2])),
    ],
)
def test_what_fits(takes, named) -> None:
    found = wire(form(), [takes], named)
    assert (found.tokens, found.mask) == ("input_word_ids", "input_mask")
    values = {name: tf.fill([2, 16], number) for number, name in enumerate(HUB)}
    given = found.apply(values)
    assert given.keys() == takes.keys()
    for number, (ours, theirs) in enumerate(JOINED.items()):
        target = theirs if named else ours
        if target in takes:
            assert given[target].dtype == takes[target].dtype
            assert (given[target].numpy() == number).all()


def test_of_several_forms_the_one_of_this_length_is_taken() -> None:
    forms = [form(length=8), form(length=16, dtype=tf.int64)]
    assert {wire.dtype for wire in wire(form(), forms, None).wires} == {tf.int64}
    forms = [form(OTHER), form()]
    assert {wire.target for wire in wire(form(), forms, None).wires} == set(HUB)


@pytest.mark.parametrize(
    ("takes", "named", "path", "words"),
    [
        (form(OTHER), None, "backbone.inputs", "do not have the same names"),
        (form(HUB[:2]), None, "backbone.inputs", "do not have the same names"),
        (form(), {**JOINED, "input_word_ids": "ids"}, "backbone.inputs", "no input"),
        (form(OTHER), {"tokens": "input_ids"}, "backbone.inputs", "gives no tensor tokens"),
        (form(OTHER), {"input_mask": "attention_mask"}, "backbone.inputs", "gets nothing"),
        (form(dtype=tf.float32), None, "backbone.inputs", "of another type"),
        (form(length=24), None, "backbone.max_length", "of another length"),
        ({n: tf.TensorSpec([None], tf.int32) for n in HUB}, None, "backbone.preprocessor", "shape"),
    ],
)
def test_what_does_not_fit(takes, named, path, words) -> None:
    with pytest.raises(DataError) as caught:
        wire(form(), [takes], named)
    (problem,) = caught.value.problems
    assert problem.path == path and words in problem.what
    assert problem.got and problem.allowed and problem.action


def test_an_error_shows_both_sides_and_what_to_write() -> None:
    with pytest.raises(DataError) as caught:
        wire(form(), [form(OTHER, None, tf.int64)], None)
    (problem,) = caught.value.problems
    for words in ("input_mask int32 [batch, 16]", "attention_mask int64 [batch, any]"):
        assert words in problem.got
    written = "{input_mask: attention_mask, input_type_ids: token_type_ids, "
    assert problem.action == f"set backbone.inputs: {written}input_word_ids: input_ids}}"


def test_a_length_that_is_not_known_does_not_fit_a_fixed_one() -> None:
    with pytest.raises(DataError, match=r"set backbone\.max_length: 16"):
        wire(form(length=None), [form()], None)


@pytest.mark.parametrize(
    ("gives", "takes", "found"),
    [
        (HUB, OTHER[:1], "{input_word_ids: input_ids}"),
        (HUB, ("x",), None),
        (("ids", "input_ids"), ("input_ids",), None),
        (HUB, ("input_ids", "ids"), None),
        (("x", "mask"), ("x", "attention_mask"), "{mask: attention_mask, x: x}"),
    ],
)
def test_a_proposal_is_made_where_it_is_plain(gives, takes, found) -> None:
    assert proposal(form(gives), form(takes)) == found


def test_a_mask_is_known_by_either_name() -> None:
    gives = form(("a", "b"))
    assert wire(gives, [form(("a", "b"))], None).mask is None
    named = {"a": "input_ids", "b": "attention_mask"}
    found = wire(gives, [form(OTHER[:2])], named)
    assert (found.tokens, found.mask) == ("a", "b")


def test_tokens_are_pooled_up_to_the_end_of_their_text() -> None:
    draw = np.random.default_rng(1)
    sequence = draw.normal(size=(4, 5, 3)).astype("float32") - 2.0
    counts = (5, 2, 1, 0)
    mask = np.array([[1] * n + [0] * (5 - n) for n in counts], np.int32)
    for kind, reduce in (("average", np.mean), ("max", np.max)):
        found = pool_tokens(kind, tf.constant(sequence), tf.constant(mask)).numpy()
        for row, n in enumerate(counts):
            wanted = reduce(sequence[row, :n], axis=0) if n else np.zeros(3)
            np.testing.assert_allclose(found[row], wanted, rtol=1e-6)
