"""One file over HTTPS, gone on with where the connection breaks.  Free of TensorFlow.

Proxies are those of the environment (``https_proxy``, ``no_proxy``), and so are the authorities
that are believed (``SSL_CERT_FILE``).
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any, BinaryIO

_WAIT_S = 30.0
"""As long as nothing may come."""
_TRIES = 4
_PAUSE_S = 1.0
_PIECE = 1 << 20
_BUSY = (408, 429, 500, 502, 503, 504)
"""Codes of a server that may answer another time (RFC 9110, RFC 6585)."""


class NotReached(Exception):
    """It cannot be had; the text says why."""


class _Broken(Exception):
    """The connection ended before the file did."""


class _OnlyTls(urllib.request.HTTPRedirectHandler):
    """A program that came over an open line is anybody's."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        url: str,
    ) -> urllib.request.Request | None:
        if not url.startswith("https://"):
            raise NotReached(f"it leads to {url}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, url)


def download(address: str, file: BinaryIO, told: Callable[[int, int | None], None]) -> None:
    """Writes what is at an address to an empty file.

    Args:
        told: hears again and again how many bytes are there, first none, and how many there will
            be; None where the server does not say.

    Raises:
        NotReached: it cannot be had, or not as a whole.
        OSError: the file cannot be written.
    """
    opener = urllib.request.build_opener(
        _OnlyTls, urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    mark: str | None = None
    for attempt in range(1, _TRIES + 1):
        try:
            with _opened(opener, address, file, mark) as response:
                mark = _mark(response)
                _copy(response, file, told)
            return
        except _Broken as broken:
            if attempt == _TRIES:
                raise NotReached(f"{broken} ({_TRIES} times)") from broken
            time.sleep(_PAUSE_S * attempt)


def _opened(
    opener: urllib.request.OpenerDirector, address: str, file: BinaryIO, mark: str | None
) -> Any:
    """The answer, with the file at the place that it begins from."""
    request = urllib.request.Request(address)  # noqa: S310 - handles are https alone
    if mark is not None and file.tell():
        request.add_header("Range", f"bytes={file.tell()}-")
        request.add_header("If-Range", mark)  # another file by now is sent from its beginning
    try:
        response = opener.open(request, timeout=_WAIT_S)
    except urllib.error.HTTPError as error:
        with error:
            said = f"the server says {error.code} {error.reason}"
        raise (_Broken(said) if error.code in _BUSY else NotReached(said)) from error
    except urllib.error.URLError as error:
        raise (_Broken if _may_pass(error.reason) else NotReached)(f"{error.reason}") from error
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _Broken(f"{type(error).__name__}: {error}") from error
    if response.status != 206:
        file.seek(0)
        file.truncate()
    return response


def _may_pass(reason: object) -> bool:
    """Whether what kept a connection from being made may be gone in a moment."""
    if isinstance(reason, socket.gaierror):
        return reason.errno == socket.EAI_AGAIN
    return isinstance(reason, TimeoutError | ConnectionResetError)


def _copy(response: Any, file: BinaryIO, told: Callable[[int, int | None], None]) -> None:
    """Writes what the answer holds behind what the file holds."""
    left = _length(response)
    total = None if left is None else file.tell() + left
    while True:
        told(file.tell(), total)
        try:
            piece = response.read(_PIECE)
        except (http.client.HTTPException, OSError) as error:
            raise _Broken(f"the connection broke ({type(error).__name__})") from error
        if not piece:
            break
        file.write(piece)
        left = None if left is None else left - len(piece)
    if left:
        raise _Broken(f"the connection ended {left} bytes too early")


def _length(response: Any) -> int | None:
    said = response.headers.get("Content-Length")
    return int(said) if said is not None and said.isdecimal() else None


def _mark(response: Any) -> str | None:
    """What tells this file from a later one of the address; a weak one does not (RFC 9110)."""
    mark = response.headers.get("ETag")
    return mark if mark is not None and not mark.startswith("W/") else None
