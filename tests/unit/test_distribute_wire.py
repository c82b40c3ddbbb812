"""Lines and their seals: any split of the bytes, and whatever strangers may send."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.distribute import wire
from harness.distribute.wire import Lines, Session, Unreadable

PORT = 20_001
lines = st.lists(st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"")), max_size=20)


def sessions(key: str = "k") -> tuple[Session, Session]:
    """Rank 0's side and the other's."""
    token = wire.token_of(key)
    hello, nonce = wire.hello()
    said, first = wire.answer(token, hello[:-1], PORT)
    return first, wire.check_answer(token, nonce, said[:-1], PORT)


def sealed(session: Session, *message: object) -> bytes:
    return b"".join(session.seal(wire.encode(*message)))[:-1]


@given(lines, st.lists(st.integers(0, 900), max_size=30))
def test_any_split_of_the_bytes_gives_the_same_lines(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in sent)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    held = Lines(40)
    got = [x for a, b in itertools.pairwise(edges) for x in held.feed(stream[a:b])]
    assert got == sent


@given(st.integers(0, 60), st.integers(1, 61))
def test_a_line_is_as_long_as_the_limit_at_most(length: int, piece: int) -> None:
    text = b"x" * length + b"\n"
    held = Lines(30)
    pieces = [text[at : at + piece] for at in range(0, len(text), piece)]
    if length <= 30:
        assert [line for some in pieces for line in held.feed(some)] == [text[:-1]]
    else:
        with pytest.raises(Unreadable, match="over 30 bytes"):
            [line for some in pieces for line in held.feed(some)]


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    held = Lines(1000)
    assert list(held.feed(b"x" * 1000)) == []
    with pytest.raises(Unreadable):
        list(held.feed(b"x"))


messages = st.lists(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(messages, messages)
def test_both_sides_open_what_the_other_has_sealed(there: list, back: list) -> None:
    first, other = sessions()
    for message in (there, back, there):
        assert first.open(sealed(other, *message)) == message
        assert other.open(sealed(first, *message)) == message


def test_a_sealed_line_is_one_line() -> None:
    _, other = sessions()
    assert b"".join(other.seal(wire.encode("a\nb\r\n\u2028"))).count(b"\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line[:-1],
        lambda line: line + b" ",
        lambda line: b"0" * 32 + line[32:],
        lambda line: b"",
        lambda line: b"\xff" * 50,
        lambda line: line[33:],
    ],
)
def test_a_changed_line_is_refused(change) -> None:
    first, other = sessions()
    with pytest.raises(Unreadable, match="not sealed"):
        first.open(change(sealed(other, "say", {"a": 1})))


def test_a_line_is_good_once_and_in_its_place() -> None:
    first, other = sessions()
    one, two = sealed(other, 1), sealed(other, 2)
    with pytest.raises(Unreadable):
        first.open(two)
    assert first.open(one) == [1]
    with pytest.raises(Unreadable):
        first.open(one)
    with pytest.raises(Unreadable):
        other.open(two)  # its own, reflected
    assert first.open(two) == [2]


def test_another_key_is_told_apart() -> None:
    hello, nonce = wire.hello()
    said, _ = wire.answer(wire.token_of("theirs"), hello[:-1], PORT)
    with pytest.raises(Unreadable, match="another key"):
        wire.check_answer(wire.token_of("ours"), nonce, said[:-1], PORT)


def test_nobody_on_another_port_can_pass_the_greetings_on() -> None:
    token = wire.token_of("k")
    hello, nonce = wire.hello()
    said, _ = wire.answer(token, hello[:-1], PORT)
    with pytest.raises(Unreadable, match="another key"):
        wire.check_answer(token, nonce, said[:-1], PORT + 1)


def test_the_greetings_hold_neither_key_nor_token() -> None:
    hello, _ = wire.hello()
    said, _ = wire.answer(wire.token_of("secret"), hello[:-1], PORT)
    for text in (hello, said):
        assert b"secret" not in text
        assert wire.token_of("secret").hex().encode() not in text
        assert len(text) < wire.GREETING_LIMIT


@given(st.binary(max_size=300))
def test_strangers_are_unreadable_and_nothing_worse(text: bytes) -> None:
    token = wire.token_of("k")
    with pytest.raises(Unreadable):
        wire.answer(token, text, PORT)
    with pytest.raises(Unreadable):
        wire.check_answer(token, b"0" * 32, text, PORT)
    first, _ = sessions()
    with pytest.raises(Unreadable):
        first.open(text)


@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r", b"SSH-2.0-OpenSSH_9.2\r", b"[" * 200, b"{}"])
def test_other_protocols_are_told_apart(text: bytes) -> None:
    with pytest.raises(Unreadable, match="another protocol"):
        wire.answer(b"", text, PORT)


def test_what_is_no_json_is_refused_where_it_is_sent() -> None:
    with pytest.raises(TypeError):
        wire.encode("say", object())


def test_a_message_longer_than_a_line_is_refused_where_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "LINE_LIMIT", 100)
    assert json.loads(wire.encode("x" * 40)) == ["x" * 40]
    with pytest.raises(ValueError, match="at most 100"):
        wire.encode("x" * 90)
