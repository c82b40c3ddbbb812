"""The ``harness`` command: finds the verb, prints errors as one paragraph, exits with its code.

Nothing slow is imported here: a verb's module holds its arguments, and imports what it needs
inside ``run``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from harness.errors import ExitCode, HarnessError

# In the order in which --help shows them: the life of a run.
VERBS = (
    "validate",
    "plan",
    "schema",
    "run",
    "submit",
    "list",
    "status",
    "logs",
    "cancel",
    "resume",
    "checkpoints",
    "diff",
    "fork",
    "move",
    "evaluate",
    "predict",
    "export",
    "pack",
    "stage",
    "inspect",
    "cache",
    "horovod",
)

_INTERRUPTED = 130
"""What a shell gives for a command that Ctrl-C ended (128 + SIGINT)."""

_CODES = "\n".join(
    f"  {code.value:>2}  {words}"
    for code, words in (
        (ExitCode.DONE, "done"),
        (ExitCode.TRAINING_FAILED, "training failed"),
        (ExitCode.USAGE, "usage or spec invalid"),
        (ExitCode.ENVIRONMENT, "environment not able"),
        (ExitCode.DATA, "data or backbone unusable"),
        (ExitCode.STORAGE, "storage full, over quota or not writable"),
        (ExitCode.STOPPED, "stopped early, saved, to be continued"),
    )
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every verb adds its own parser."""
    from harness import __version__

    parser = argparse.ArgumentParser(
        prog="harness",
        description="One job spec in, a trained and trustworthy model out.",
        epilog="exit codes:\n" + _CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in VERBS:
        module = importlib.import_module(f"harness.cli.{name}")
        verb = verbs.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_argument("--debug", action="store_true", help="show the traceback of an error")
        module.add_arguments(verb)
        verb.set_defaults(call=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    debug = "--debug" in (sys.argv if argv is None else argv)
    try:
        args = build_parser().parse_args(argv)
        return int(args.call(args))
    except HarnessError as error:
        if debug:
            traceback.print_exc()
        for problem in error.problems:
            print(f"harness: {problem}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        print("harness: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has left.  Python would complain again when it flushes at
        # exit, so what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        if getattr(signal.getsignal(signal.SIGINT), "heard", False):
            # A library in whose midst it came makes an error of its own of it, as Pydantic does.
            print("harness: interrupted", file=sys.stderr)
            return _INTERRUPTED
        from harness.worker.translation import translated

        known = translated(error, "try again, and report it if it stays")
        print(f"harness: {known}", file=sys.stderr)
        return int(known.exit_code)
