"""A feature is taken out of a tf.Example as a parser takes it out, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.example_bytes import only_bytes, take_bytes

tf = pytest.importorskip("tensorflow")
message = pytest.importorskip("google.protobuf.message")

KEY = "image/encoded"
values = st.one_of(
    st.lists(st.binary(max_size=200), max_size=3).map(
        lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    ),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3).map(
        lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    ),
    st.lists(st.floats(width=32), max_size=3).map(
        lambda value: tf.train.Feature(float_list=tf.train.FloatList(value=value))
    ),
    st.just(tf.train.Feature()),
)
maps = st.dictionaries(st.one_of(st.just(KEY), st.text(max_size=20)), values, max_size=6)


def example(feature) -> bytes:
    features = tf.train.Features(feature=feature)
    return tf.train.Example(features=features).SerializeToString()


def parsed(features: bytes):
    """The features in a message; None where a parser refuses it."""
    try:
        return dict(tf.train.Features.FromString(features).feature)
    except message.DecodeError:
        return None


@settings(max_examples=300, deadline=None)
@given(maps)
def test_it_is_what_a_parser_takes_or_nothing(feature):
    record = example(feature)
    held = feature[KEY].bytes_list.value if KEY in feature else []
    for form in (record, memoryview(record)):
        taken = take_bytes(form, KEY.encode())
        if len(held) != 1:
            assert taken is None
            continue
        # All are in reach here, unless a name or a value holds what is looked for.
        assert taken is not None
        assert taken.value == held[0]
        before, behind = parsed(taken.before), parsed(taken.behind)
        assert before | behind == {name: value for name, value in feature.items() if name != KEY}


@settings(max_examples=300, deadline=None)
@given(maps, st.data())
def test_of_what_is_damaged_it_is_what_a_parser_takes_or_nothing(feature, data):
    record = bytearray(example(feature))
    for _ in range(data.draw(st.integers(1, 3))):
        if record:
            at = data.draw(st.integers(0, len(record) - 1))
            record[at] = data.draw(st.integers(0, 255))
    cut = bytes(record[: data.draw(st.integers(0, len(record)))])
    for raw in (bytes(record), cut):
        taken = take_bytes(raw, KEY.encode())
        if taken is None:
            continue
        around = [parsed(taken.before), parsed(taken.behind)]
        if None not in around and not any(KEY in one for one in around):
            found = tf.train.Example.FromString(raw).features.feature[KEY].bytes_list.value
            assert list(found) == [taken.value]


def test_a_name_within_another_value_is_seen_where_that_is_parsed():
    feature = {"a": _bytes(b"x" + example({KEY: _bytes(b"false")})[2:]), KEY: _bytes(b"true")}
    record = tf.train.Example(features=tf.train.Features(feature=feature))
    taken = take_bytes(record.SerializeToString(deterministic=True), KEY.encode())
    assert taken is None or parsed(taken.before) is None


def test_a_feature_far_inside_is_left_to_a_parser():
    feature = {"a": _bytes(bytes(2000)), KEY: _bytes(b"content")}
    record = tf.train.Example(features=tf.train.Features(feature=feature))
    assert take_bytes(record.SerializeToString(deterministic=True), KEY.encode()) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.one_of(st.just(KEY), st.text(max_size=20)))
def test_the_only_feature_is_what_a_parser_takes(value, name):
    features = tf.train.Features(feature={name: _bytes(value)}).SerializeToString()
    assert only_bytes(features, name.encode()) == value
    assert only_bytes(features, b"another") is None


@settings(max_examples=300, deadline=None)
@given(maps)
def test_of_more_features_none_is_the_only_one(feature):
    raw = tf.train.Features(feature=feature).SerializeToString()
    found = only_bytes(raw, KEY.encode())
    if found is not None:
        assert feature == {KEY: _bytes(found)}


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"\n\x80", b"\x12\x00", b"\n\x05\n\x03\n\x01", b"\xff"]
)
def test_what_is_no_example_is_left_to_a_parser(raw):
    assert take_bytes(raw, b"x") is None


def test_two_values_under_one_name_are_left_to_a_parser():
    one, other = example({KEY: _bytes(b"one")}), example({KEY: _bytes(b"other")})
    # Messages that are joined are merged, and the last entry of a map is taken.
    joined = tf.train.Example.FromString(one + other).features.feature[KEY]
    assert list(joined.bytes_list.value) == [b"other"]
    assert take_bytes(one + other, KEY.encode()) is None
    inside = one[2:] + other[2:]
    both = b"\n" + bytes([len(inside)]) + inside
    (held,) = tf.train.Example.FromString(both).features.feature[KEY].bytes_list.value
    taken = take_bytes(both, KEY.encode())
    assert held == b"other" and KEY in parsed(taken.behind), "so that it can be seen"


def _bytes(value: bytes):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
