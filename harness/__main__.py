"""``python -m harness``, and the ``harness`` command itself.

Nothing is imported before Ctrl-C is caught: an impatient user gets a line, not a traceback.
"""

import sys


def main() -> int:
    """Runs the command line; see :func:`harness.cli.main.main`."""
    try:
        import signal

        from harness.cli.main import main as run

        code = run()
        # What is left is TensorFlow's own shutdown; a Ctrl-C there changes nothing any more.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return code
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
