"""What ranks say to one another over a connection: lines, and the proof of who speaks.  Pure.

A connection starts with one line each way, of fixed form, so that nothing a stranger sends is ever
parsed.  Both sides bring a nonce; rank 0 shows with an HMAC over them that it knows the key.  From
then on every line carries an HMAC under a key made of both nonces, with its number: nobody who does
not know the key can join, alter, repeat or add a line.  The lines are not encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

GREETING_LIMIT = 256
"""Bytes of the longest line before the key is proven; ours have about 120."""
JOIN_LIMIT = 128 * 1024
"""Bytes of the line with which a rank joins, which is the one that proves it."""
LINE_LIMIT = 64 * 2**20
"""Bytes of the longest line after it: the members of 1,024 ranks are about 0.3 MB."""
_PROTOCOL = b"harness-gang-1"
_HELLO = re.compile(_PROTOCOL + rb" ([0-9a-f]{32})")
_ANSWER = re.compile(_PROTOCOL + rb" ([0-9a-f]{32}) ([0-9a-f]{64})")
_SEAL = 32
"""Hexadecimal digits of a line's HMAC."""


class Unreadable(Exception):
    """A line is too long, of another protocol, or not sealed with our key."""


class Lines:
    """Puts received pieces together to lines.

    Args:
        limit: bytes of the longest line that is taken.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Each line that is whole now, without its end; the rest is kept.

        Raises:
            Unreadable: a line is longer than the limit, whether it has ended or not.
        """
        self._held += data
        while (at := self._held.find(b"\n", self._searched)) >= 0:
            if at > self.limit:
                break
            line = bytes(self._held[:at])
            del self._held[: at + 1]
            self._searched = 0
            yield line
        self._searched = len(self._held)
        if len(self._held) > self.limit:
            raise Unreadable(f"a line of over {self.limit} bytes")


class Session:
    """Seals the lines of one connection, and opens those of the other side.

    Each direction has a key and counts its lines, so a line is good once and in its place.
    """

    def __init__(self, token: bytes, nonces: bytes, *, first: bool) -> None:
        mine, theirs = (b"from rank 0", b"to rank 0") if first else (b"to rank 0", b"from rank 0")
        self._seal_key = _mac(token, mine + nonces)
        self._open_key = _mac(token, theirs + nonces)
        self._sealed = self._opened = 0

    def seal(self, body: bytes) -> tuple[bytes, bytes, bytes]:
        """The line that carries ``body``, in pieces: many connections share one long body."""
        mac = _line_mac(self._seal_key, self._sealed, body)
        self._sealed += 1
        return mac + b" ", body, b"\n"

    def open(self, line: bytes) -> list[Any]:
        """What the other side has sealed.

        Raises:
            Unreadable: it is not from the other side, or not the next line.
        """
        mac, body = line[:_SEAL], line[_SEAL + 1 :]
        if not hmac.compare_digest(mac, _line_mac(self._open_key, self._opened, body)):
            raise Unreadable("a line that is not sealed with the key of this start")
        self._opened += 1
        message = json.loads(body)
        assert isinstance(message, list), "every message of ours is a list"
        return message


def encode(*message: Any) -> bytes:
    """A message as one line of JSON.

    Raises:
        TypeError: it holds something that JSON does not know.
        ValueError: it is longer than a line may be.
    """
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) + _SEAL + 2 > LINE_LIMIT:
        raise ValueError(f"a message of {len(body)} bytes, at most {LINE_LIMIT} are taken")
    return body


def token_of(key: str) -> bytes:
    """What is proven to be known; the key cannot be told from it."""
    return hashlib.sha256(b"harness gang token\0" + key.encode()).digest()


def hello() -> tuple[bytes, bytes]:
    """The first line of a rank that looks for rank 0, and its nonce."""
    nonce = _nonce()
    return b"%s %s\n" % (_PROTOCOL, nonce), nonce


def answer(token: bytes, line: bytes, port: int) -> tuple[bytes, Session]:
    """Rank 0's answer to a :func:`hello`, and the session that begins with it.

    Args:
        port: where rank 0 listens.  It is in the proof, so a process on another port of the node
            cannot stand between two ranks and pass their greetings on.

    Raises:
        Unreadable: the line is no hello.
    """
    found = _HELLO.fullmatch(line)
    if found is None:
        raise Unreadable("a greeting of another protocol")
    nonces = b"%s %s %d" % (found[1], _nonce(), port)
    proof = _mac(token, b"rank 0" + nonces).hex().encode()
    said = b"%s %s %s\n" % (_PROTOCOL, nonces.split()[1], proof)
    return said, Session(token, nonces, first=True)


def check_answer(token: bytes, nonce: bytes, line: bytes, port: int) -> Session:
    """The session that rank 0's answer begins.

    Raises:
        Unreadable: whoever answered is not the rank 0 that knows the key.
    """
    found = _ANSWER.fullmatch(line)
    if found is None:
        raise Unreadable("an answer of another protocol")
    nonces = b"%s %s %d" % (nonce, found[1], port)
    if not hmac.compare_digest(_mac(token, b"rank 0" + nonces).hex().encode(), found[2]):
        raise Unreadable("an answer by somebody with another key")
    return Session(token, nonces, first=False)


def _nonce() -> bytes:
    return secrets.token_hex(16).encode()


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _line_mac(key: bytes, number: int, body: bytes) -> bytes:
    return _mac(key, b"%d " % number + body).hex()[:_SEAL].encode()
