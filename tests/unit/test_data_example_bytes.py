"""A feature is taken out of a tf.Example as a parser takes it out, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.example_bytes import take_bytes

tf = pytest.importorskip("tensorflow")

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


@settings(max_examples=300, deadline=None)
@given(maps)
def test_it_is_what_a_parser_takes_or_nothing(feature):
    record = example(feature)
    taken = take_bytes(record, KEY.encode())
    held = feature[KEY].bytes_list.value if KEY in feature else []
    if len(held) != 1:
        assert taken is None
        return
    rest = {name: value for name, value in feature.items() if name != KEY}
    # An entry of a map that is empty may be written in more ways than one.
    if all(rest):
        assert taken is not None
    if taken is not None:
        assert taken[0] == held[0]
        assert dict(tf.train.Features.FromString(taken[1]).feature) == rest


@settings(max_examples=300, deadline=None)
@given(maps, st.data())
def test_what_is_damaged_raises_nothing(feature, data):
    record = bytearray(example(feature))
    for _ in range(data.draw(st.integers(1, 3))):
        if record:
            at = data.draw(st.integers(0, len(record) - 1))
            record[at] = data.draw(st.integers(0, 255))
    cut = bytes(record[: data.draw(st.integers(0, len(record)))])
    for raw in (bytes(record), cut):
        taken = take_bytes(raw, KEY.encode())
        assert taken is None or all(isinstance(part, bytes) for part in taken)


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
    assert held == b"other" and take_bytes(both, KEY.encode()) is None


def _bytes(value: bytes):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
