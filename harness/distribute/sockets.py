"""The sockets of the ranks: where rank 0 listens, ports kept for others, peers that vanish."""

from __future__ import annotations

import resource
import socket
from collections.abc import Sequence
from pathlib import Path

from harness.errors import EnvironmentNotAble

_BACKLOG = 4096
_SPARE_DESCRIPTORS = 256
"""Descriptors beside those of the ranks: TensorFlow, the data, and strangers at the port."""
# A node that vanished sends no end: noticed after 30 + 3 * 10 s of silence, and as soon with data
# under way, which keepalive does not watch.
_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


def listen(ports: Sequence[int], *, everywhere: bool) -> socket.socket:
    """A socket that listens at the first of ``ports`` that is free.

    Args:
        everywhere: on all interfaces; else on loopback, where other machines cannot come.

    Raises:
        EnvironmentNotAble: none of the ports is free.
    """
    errors: dict[str, list[int]] = {}
    for port in ports:
        sock, host = _socket(everywhere)
        # Ports of connections that have just ended are free; those where somebody listens are not.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            errors.setdefault(error.strerror or str(error), []).append(port)
        else:
            return sock
    raise EnvironmentNotAble(
        "rank 0 can listen at none of the ports of this start",
        got="; ".join(f"{why} (ports {', '.join(map(str, at))})" for why, at in errors.items()),
        allowed=f"one free port of {len(ports)}",
        action="start it again, which chooses other ports, or look with `ss -tlnp` who has them",
    )


def _socket(everywhere: bool) -> tuple[socket.socket, str]:
    if not everywhere:
        return socket.socket(socket.AF_INET), "127.0.0.1"
    if socket.has_dualstack_ipv6():
        sock = socket.socket(socket.AF_INET6)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        return sock, "::"
    return socket.socket(socket.AF_INET), ""


def hold_port() -> tuple[socket.socket, int]:
    """A free port of this machine, and the socket that keeps it from others until it is closed.

    For a server that a library starts later on a port that must be told to others now.  The socket
    is bound and does not listen.  Linux gives its port to nobody who asks for any port, neither for
    listening nor for an outgoing connection.  A server that binds this very port with SO_REUSEADDR,
    as gRPC's (TensorFlow's) does, gets it while the socket is still open: so *close it after the
    server has started*, and there is no moment in which somebody else could take the port.  A
    server without SO_REUSEADDR is refused until the socket is closed, and then there is.
    """
    sock, host = _socket(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, 0))
    return sock, int(sock.getsockname()[1])


def make_room(size: int) -> None:
    """Lets this process open a connection for each of ``size`` ranks.

    Raises:
        EnvironmentNotAble: the system's limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = size + len(list(Path("/proc/self/fd").iterdir())) + _SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise EnvironmentNotAble(
            f"rank 0 may not open enough files for the connections of {size} ranks",
            got=f"ulimit -Hn {hard}",
            allowed=f"{needed} or more",
            action="ask for a higher limit of open files on the compute nodes (LimitNOFILE of "
            "slurmd), or use fewer ranks",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def keep_alive(sock: socket.socket) -> None:
    """Has the end of a peer noticed whose machine can no longer tell it, within a minute.

    A process that merely stands still is not one: its machine goes on answering.
    """
    for level, option, value in _ALIVE:
        sock.setsockopt(level, option, value)


def plain_address(address: str) -> str:
    """An IPv4 address in its own form where it came through an IPv6 socket."""
    return address.removeprefix("::ffff:").partition("%")[0]
