"""Builds Horovod for the installed TensorFlow, installs it, and proves it on two ranks.

The released Horovod does not compile with today's TensorFlow as it is.  This fetches its source
package, makes the changes that it needs, compiles it (minutes; kept, so only once), installs it
into the Python that runs this, and sums something over two ranks with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.distribute.horovod_built import HorovodFacts
    from harness.launch.horovod_build import Asked, Plan

HELP = "build, install and check Horovod for the installed TensorFlow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from harness.cli.common import add_json

    add = parser.add_argument
    add("--check", action="store_true", help="build nothing: tell what is installed, and prove it")
    add(
        "--with",
        dest="parts",
        metavar="LIST",
        type=_words,
        default=(),
        help="build exactly these of gloo, mpi and nccl, as --with gloo,mpi (gloo always); with "
        "--check, insist on them; default: all that this machine can build",
    )
    folder: dict[str, Any] = {"metavar": "DIR", "type": _path}
    add("--cuda-home", **folder, help="CUDA toolkit (default: $CUDA_HOME, the one of nvcc)")
    add("--nccl-home", **folder, help="NCCL (default: TensorFlow's own, $NCCL_HOME)")
    add(
        "--cuda-arch",
        metavar="LIST",
        type=_numbers,
        default=(),
        help="GPUs to compile for, as --cuda-arch 80,90 (default: all that nvcc knows)",
    )
    add("--sdist", metavar="FILE", type=_path, help="Horovod's source package, instead of fetching")
    add(
        "--wheel-dir",
        **folder,
        help="take the wheel from here and put it here (default: horovod in the cache, see "
        "HARNESS_CACHE)",
    )
    add("--rebuild", action="store_true", help="build even if the wheel is there")
    add("--wheel-only", action="store_true", help="build the wheel and install nothing")
    add("--jobs", metavar="N", type=_count, help="compilers at a time (default: one for each core)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    import os
    import signal
    import sys

    from harness.launch.horovod_build import make_plan
    from harness.worker.environment import cache_root

    def say(line: str) -> None:
        # With --json the answer alone is on standard output.
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)

    asked = _asked(args)
    # So that what was started ends with us: compilers, and ranks that wait for one another.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    environment = dict(os.environ)
    if args.check:
        return _check(args, environment, say)
    plan = make_plan(asked, environment, cache_root(environment, say))
    say(f"TensorFlow {plan.machine.tensorflow}, Python {'.'.join(map(str, sys.version_info[:2]))}")
    for line in plan.options.why:
        say(f"  {line}")
    answer = _make(args, asked, plan, environment, say)
    if not args.wheel_only:
        answer |= _proved(plan.machine.gpus, (), environment, say)
    if args.json:
        from harness.cli.common import print_json

        print_json(answer)
    return 0


def _make(
    args: argparse.Namespace,
    asked: Asked,
    plan: Plan,
    environment: dict[str, str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Wheel and installation, as far as they are not there; what --json says of them."""
    from harness.launch.horovod_build import make_wheel
    from harness.launch.horovod_install import install, installed_version

    there = installed_version()
    if there == plan.version and not (args.rebuild or args.wheel_only):
        say(f"installed already: Horovod {there}")
        return {"version": there, "wheel": plan.wheel, "built": False, "why": plan.options.why}
    wheel, built = make_wheel(plan, asked, environment, say)
    say(f"{'kept as' if built else 'from the cache:'} {wheel}")
    if not args.wheel_only:
        if there is not None and there != plan.version:
            say(f"in place of Horovod {there}")
        install(wheel, environment, plan.log.with_suffix(".install.log"))
        say(f"installed Horovod {plan.version}")
    return {"version": plan.version, "wheel": wheel, "built": built, "why": plan.options.why}


def _check(
    args: argparse.Namespace, environment: dict[str, str], say: Callable[[str], None]
) -> int:
    from harness.launch.horovod_machine import look

    facts = _usable(args.parts)
    say(f"Horovod {facts.version} for TensorFlow {facts.tensorflow}")
    answer = _proved(look(environment).gpus, args.parts, environment, say)
    if args.json:
        from harness.cli.common import print_json

        print_json({"version": facts.version, **answer})
    return 0


def _proved(
    gpus: int, parts: tuple[str, ...], environment: dict[str, str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Runs the two ranks; what --json says of them."""
    from harness.launch.horovod_verify import verify

    facts = _usable(parts)
    say(f"built with {' '.join(facts.built_with)}")
    checks = verify(facts, environment, gpus=gpus, say=say)
    return {
        "tensorflow": facts.tensorflow,
        "built_with": facts.built_with,
        "checks": {check.name: {"ok": check.ok, "what": check.words} for check in checks},
    }


def _usable(parts: tuple[str, ...]) -> HorovodFacts:
    """The installed Horovod, with all that is asked of it.

    Raises:
        EnvironmentNotAble: there is none, or not such a one.
    """
    import importlib

    from harness.distribute.horovod_built import horovod_facts, horovod_hint
    from harness.errors import EnvironmentNotAble

    importlib.invalidate_caches()  # it may have come since this process looked
    facts = horovod_facts()
    if facts is None:
        raise EnvironmentNotAble("Horovod is not installed", action=horovod_hint(parts))
    lacking = [part for part in parts if part not in facts.built_with]
    trouble = facts.trouble or (f"it was built without {', '.join(lacking)}" if lacking else None)
    if trouble:
        raise EnvironmentNotAble(
            f"the installed Horovod {facts.version} cannot be used",
            got=trouble,
            action=horovod_hint(parts),
        )
    return facts


def _asked(args: argparse.Namespace) -> Asked:
    """The options of the build.

    Raises:
        UsageError: options that contradict one another.
    """
    from harness.errors import UsageError
    from harness.launch.horovod_build import Asked

    build_only = ("cuda_home", "nccl_home", "cuda_arch", "sdist", "wheel_dir", "rebuild", "jobs")
    given = [name for name in (*build_only, "wheel_only") if getattr(args, name)]
    if args.check and given:
        raise UsageError(
            "--check builds nothing, so options of a build mean nothing with it",
            got=", ".join(f"--{name.replace('_', '-')}" for name in given),
            allowed="--check with --with and --json",
        )
    return Asked(
        parts=args.parts,
        architectures=args.cuda_arch,
        cuda_home=args.cuda_home,
        nccl_home=args.nccl_home,
        sdist=args.sdist,
        wheel_dir=args.wheel_dir,
        rebuild=args.rebuild,
        jobs=args.jobs,
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers, as in 80,90") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()
