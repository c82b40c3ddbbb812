"""Records read ahead: what is needed first is read first, and nothing goes on that nobody wants."""

from __future__ import annotations

import threading
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from harness.data import packed_stream
from harness.data.order import Order, sorted_row
from harness.data.packed_rows import parse_record
from harness.data.packed_stream import Streams, stream
from harness.data.selection import Selection
from harness.errors import DataError

N, LANES, BLOCK, WINDOW = 4096, 4, 8, 4


def examples() -> SimpleNamespace:
    """A set of which every record is its own position, as text."""

    class Packed:
        def __len__(self) -> int:
            return N

        def shard_of(self, positions):
            return positions // 1000

    return SimpleNamespace(packed=Packed(), selection=Selection(N))


@pytest.fixture
def reads(monkeypatch):
    """The pieces that were read, in that order."""
    done: list[list[int]] = []

    def read_records(packed, positions, room):
        done.append(positions.tolist())
        return [str(position).encode() for position in positions]

    monkeypatch.setattr(packed_stream, "read_records", read_records)
    return done


def order_of(**changes) -> Order:
    asked = {"n": N, "global_batch": 8, "lanes": LANES, "seed": 3, "block": BLOCK}
    return Order(**asked | {"window": WINDOW} | changes)


@pytest.mark.parametrize(
    "changes", [{}, {"block": 1, "window": 1}, {"n": N, "window": 1000}, {"global_batch": 64}]
)
@pytest.mark.parametrize("start", [0, 37])
def test_every_row_is_that_of_the_order(reads, changes, start):
    order = order_of(**changes)
    steps = start + np.arange(min(300, 2 * order.steps_per_epoch))
    epochs, inside = np.divmod(steps, order.steps_per_epoch)
    positions, masks = order.batch(epochs, inside, 1, 2)
    given = stream(examples(), order, start, 1, 2, int)
    for at, one in enumerate(islice(given, len(steps))):
        np.testing.assert_array_equal(one.parsed, positions[at])
        np.testing.assert_array_equal(one.row, sorted_row(positions[at], N))
        np.testing.assert_array_equal(one.mask, masks[at])
        assert (one.epoch == epochs[at]).all()
    given.close()


def test_the_first_batch_waits_for_one_piece_of_each_lane(reads, monkeypatch):
    monkeypatch.setattr(packed_stream, "_THREADS", 1)
    order = order_of(global_batch=4)
    given = stream(examples(), order, 0, 0, LANES, int)
    first = next(given)
    ahead = {position for piece in reads[:LANES] for position in piece}
    assert set(first.parsed) <= ahead
    assert all(len(piece) <= BLOCK for piece in reads)
    given.close()


def test_no_more_than_one_and_a_half_windows_of_a_lane_are_held(reads):
    order = order_of()
    given = stream(examples(), order, 0, 0, LANES, int)
    taken = 0
    for _ in islice(given, 200):
        taken += order.global_batch
        held = sum(map(len, reads)) - taken
        # The next window is read, block by block, while half of one is given.
        assert held <= LANES * BLOCK * (1.5 * WINDOW + 0.5)
    given.close()


def readers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "harness-read"}


def wait_for_the_end_of(threads: set[threading.Thread]) -> None:
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def test_closing_it_ends_its_threads(reads):
    before = readers()
    given = stream(examples(), order_of(), 0, 0, LANES, int)
    next(given)
    mine = readers() - before
    assert len(mine) == LANES
    given.close()
    wait_for_the_end_of(mine)


def test_pieces_that_are_asked_for_in_turn_come_from_one_stream(reads):
    begun = []

    def begin(number):
        begun.append(number)
        return stream(examples(), order_of(), number, 0, LANES, int)

    before, streams = readers(), Streams()
    first = [streams.ask("a", at, begin).parsed for at in range(3)]
    assert begun == [0]
    # Another iterator, from the beginning, while the first one goes on.
    assert [streams.ask("a", 0, begin).parsed, streams.ask("a", 3, begin).parsed][0] == first[0]
    assert streams.ask("a", 1, begin).parsed == first[1]
    assert streams.ask("b", 2, begin).parsed == first[2]
    assert begun == [0, 0, 3, 1, 2]
    del streams
    wait_for_the_end_of(readers() - before)


def test_what_a_read_raises_is_raised_where_it_is_needed(monkeypatch):
    def broken(packed, positions, room):
        raise DataError("offsets.bin is broken")

    monkeypatch.setattr(packed_stream, "read_records", broken)
    with pytest.raises(DataError, match=r"offsets\.bin"):
        next(stream(examples(), order_of(), 0, 0, LANES, int))


def test_of_a_record_its_picture_name_and_label_are_taken():
    def feature(**value):
        return tf.train.Feature(**value)

    features = {
        "image/encoded": feature(bytes_list=tf.train.BytesList(value=[b"pixels"])),
        "image/filename": feature(bytes_list=tf.train.BytesList(value=[b"a/1.png"])),
        "image/class/label": feature(int64_list=tf.train.Int64List(value=[7])),
        "more": feature(float_list=tf.train.FloatList(value=[0.5])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    record = example.SerializeToString()
    # As the thread that reads gives it: a part of what was read.
    view = memoryview(b"before" + record + b"behind")[6:-6]
    for form in (record, view):
        assert parse_record(form) == (b"pixels", b"a/1.png", 7, 1.0)
    assert isinstance(parse_record(view).encoded, bytes), "what was read is read over"
    for nothing in (b"", b"\xff\xff\xff", tf.train.Example().SerializeToString()):
        for form in (nothing, memoryview(nothing)):
            assert parse_record(form) == (b"", b"", 0, 1.0)
    features["image/weight"] = feature(float_list=tf.train.FloatList(value=[2.5]))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    assert parse_record(example.SerializeToString()).weight == 2.5
