"""Waits out what passes by itself on network file systems.

NFS gives a stale handle where a server was restarted or a file was replaced meanwhile, Lustre
breaks off what a client had begun when it evicts it, and either may show a file on one node a
moment later than another node has made it.  To ask again, with a new handle, is the remedy; a
bounded number of times, since what stays must be told.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

PASSING = frozenset(
    {
        errno.ESTALE,  # NFS: the handle is of a file that is another one by now
        errno.EIO,  # NFS mounted soft: the server did not answer in time
        errno.ETIMEDOUT,
        errno.EAGAIN,
        errno.ESHUTDOWN,  # Lustre: evicted, and connected anew a moment later
        errno.ENOTCONN,
        errno.EREMOTEIO,
    }
)
"""What may have passed the next time."""

WAITS_S = (0.1, 0.3, 1.0, 3.0)
"""Between two tries: some seconds in all, as long as a client takes to connect anew."""


def patiently(
    call: Callable[[], _T],
    *,
    late: bool = False,
    waits_s: tuple[float, ...] = WAITS_S,
    sleep: Callable[[float], object] = time.sleep,
) -> _T:
    """What ``call`` gives, which is called again where it met what passes.

    Args:
        call: opens what it needs itself, and does no harm when it is done twice.
        late: what it asks for is known to be there, so that it is waited for as well.
        waits_s: seconds between the tries, one more than these.

    Raises:
        OSError: the last one, or the first that does not pass.
    """
    passing = PASSING | {errno.ENOENT} if late else PASSING
    for wait_s in waits_s:
        try:
            return call()
        except OSError as error:
            if error.errno not in passing:
                raise
        sleep(wait_s)
    return call()
