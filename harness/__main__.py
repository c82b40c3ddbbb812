"""``python -m harness``, and the ``harness`` command itself.

Nothing is imported before Ctrl-C is caught: an impatient user gets a line, not a traceback.
"""

import contextlib
import os
import signal
import sys


class Interrupts:
    """The handler of SIGINT until training installs its own.

    Raises KeyboardInterrupt as Python's does, and remembers it: one that comes while Python runs
    a destructor is printed there and lost, and the training that follows must know of it.
    """

    heard = False

    def __call__(self, number: int, frame: object) -> None:
        """Called by Python in the main thread."""
        self.heard = True
        raise KeyboardInterrupt


def main() -> int:
    """Runs the command line; see :func:`harness.cli.main.main`."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, Interrupts())
        from harness.cli.main import main as run

        code = run()
        # What is left is TensorFlow's own shutdown; a Ctrl-C there changes nothing any more.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return code
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return 130


def command() -> None:
    """The process of the command line, from its beginning to its end.

    Where TensorFlow was used the process ends at once.  At an ordinary end Python stops all threads
    that still need it, those of a data set among them that call Python code, and then waits for
    ever for the data set, which waits for them.
    """
    code = main()
    if "tensorflow" in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            # Who reads it may have gone; there is nobody left to tell.
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    command()
