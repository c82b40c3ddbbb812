"""An HTTPS server on this machine that answers for every host, and the proxy that leads to it.

So what is tested asks the addresses that it would ask in the world: ``https_proxy`` names the
proxy, and ``SSL_CERT_FILE`` the certificate that is believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import socket
import socketserver
import ssl
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.unit.rights import lacking

HOSTS = ("tfhub.dev", "storage.googleapis.com")


class World:
    """What is served, by ``host/path?query``, and what was asked.

    Attributes:
        breaks: after so many bytes the connection ends, once for each number.
        codes: codes that are answered instead, before anything else.
        leads: where an address leads to.
        slow_s: before the body.
        ranges: whether a part of a file may be asked for.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.begun_at: list[int] = []
        self.breaks: list[int] = []
        self.codes: list[int] = []
        self.leads: dict[str, str] = {}
        self.slow_s = 0.0
        self.ranges = True
        self.environment: dict[str, str] = {}

    def serve_module(self, handle: str, files: dict[str, bytes]) -> None:
        """As a Hub does: an archive, where it is asked for one."""
        self.files[f"{handle.removeprefix('https://')}?tf-hub-format=compressed"] = archive(files)


def archive(files: dict[str, bytes]) -> bytes:
    """A .tar.gz of files by their names."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by the names that an archive of it has."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {f"./{path.relative_to(folder)}": path.read_bytes() for path in found}


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Serves until the block ends; what reaches it is in ``environment``."""
    if shutil.which("openssl") is None:
        lacking("no openssl; next: sudo .ci/system-packages scripts")
    served = World()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -keyout {key} -out"
    more = ["-addext", f"subjectAltName={names}"]
    command = ["openssl", *words.split(), str(certificate), *more]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    proxy = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _tunnel(server.server_port))
    proxy.daemon_threads = True
    address = f"http://127.0.0.1:{proxy.server_address[1]}"
    served.environment = {
        **dict.fromkeys(("https_proxy", "HTTPS_PROXY"), address),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1"),
        "SSL_CERT_FILE": str(certificate),
    }
    threads = [threading.Thread(target=one.serve_forever, daemon=True) for one in (server, proxy)]
    for thread in threads:
        thread.start()
    try:
        yield served
    finally:
        for one in (proxy, server):
            one.shutdown()
            one.server_close()


# Without 127.0.0.1 ranks, which talk to one another by gRPC, would be sent to the proxy too.
NOBODY = {
    **dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1"),
}
"""Nobody answers: a closed port of this machine is the proxy."""


def _handler(served: World) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = f"{self.headers['Host'].partition(':')[0]}{self.path}"
            served.asked.append(where)
            if served.codes:
                self.send_error(served.codes.pop(0))
            elif urlsplit(where).path in served.leads:
                self.send_response(302)
                self.send_header("Location", served.leads[urlsplit(where).path])
                self.end_headers()
            elif where in served.files:
                self._send(served.files[where])
            else:
                self.send_error(404)

        def _send(self, content: bytes) -> None:
            mark = f'"{hashlib.sha256(content).hexdigest()}"'
            begin = 0
            said = self.headers.get("Range", "")
            if served.ranges and said and self.headers.get("If-Range") == mark:
                begin = int(said.removeprefix("bytes=").rstrip("-"))
            served.begun_at.append(begin)
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.send_header("ETag", mark)
            self.end_headers()
            time.sleep(served.slow_s)
            until = served.breaks.pop(0) if served.breaks else len(content)
            self.wfile.write(content[begin:until])

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _tunnel(port: int) -> type[socketserver.BaseRequestHandler]:
    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            assert self.rfile.readline().startswith(b"CONNECT ")
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection(("127.0.0.1", port)) as inner:
                back = threading.Thread(target=_pump, args=(inner, self.connection), daemon=True)
                back.start()
                _pump(self.connection, inner)
                back.join()

    return Tunnel


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
