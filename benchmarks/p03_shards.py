"""P3, reading packed shards: as fast as cat, and in how many system calls.

Ours gives whole examples in the order of training, without decoding their pixels: read in pieces,
each checksum compared, shuffled, parsed.  As in a run one iterator goes on from epoch to epoch, so
that as much is read as is given; what a run needs to begin is P11.  The peer only moves the bytes,
file after file.  What the system is asked for is counted by strace in processes of their own, over
one epoch.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import feeding, photographs
from benchmarks.rows import Row, compare, seconds

ROOT = Path(__file__).resolve().parent.parent
TIMES = 20
CALLS = {"opens": ("open", "openat"), "reads": ("read", "pread64", "readv", "preadv", "preadv2")}


def rows() -> Iterator[Row]:
    """Bytes a second, and system calls."""
    feeding.alone()
    folder = photographs.many(TIMES)
    shards = photographs.packed(folder, f"packed-{TIMES}", "--shard-mb=64")
    files = sorted(shards.glob("*.tfrecord"))
    size = sum(path.stat().st_size for path in files)
    cat = shutil.which("cat") or "/bin/cat"

    def theirs() -> float:
        command = [cat, *map(str, files)]
        copy = lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # noqa: E731, S603
        return size / seconds(copy)

    epoch = reading(shards)
    epoch()  # its first windows are in memory from now on

    def ours() -> float:
        return size / seconds(epoch)

    mine, its, spread = compare(feeding.cold(shards, ours), feeding.cold(shards, theirs))
    yield Row(
        id="P3",
        work="an epoch of packed shards, pictures not decoded, cold",
        peer="cat shards > /dev/null",
        ours=mine,
        theirs=its,
        target=0.90,
        better="higher",
        spread=spread,
        note=f"{size / 1e6:,.0f} MB, bytes a second",
    )
    yield from _calls(folder, shards)


def reading(path: Path) -> Callable[[], None]:
    """Gives the rows of a set, whose pictures are read and not decoded, an epoch at each call.

    As in a run, TensorFlow's tuner is off.
    """
    import tensorflow as tf

    from harness.data.rows import Share

    feed = feeding.feed(path)
    order = feed.order
    rows = feed._rows.training(order, Share(0, 0, order.lanes, lambda rows: rows, feeding.BATCH))
    options = tf.data.Options()
    options.autotune.enabled = False
    chunks = rows.with_options(options)
    if "content" not in chunks.element_spec:  # a folder's files are opened where they are decoded
        raise AssertionError("only rows of packed sets hold their content")
    iterator = iter(chunks)

    @tf.function
    def taken() -> tf.Tensor:
        # By a graph, as the steps of a run take them: Python would need as long for it as for the
        # reading, and would keep the threads that read from it.
        seen = tf.constant(0.0)
        for _ in tf.range(order.steps_per_epoch):
            seen += tf.reduce_sum(next(iterator)["mask"])
        return seen

    def epoch() -> None:
        seen = taken().numpy()
        if seen != order.n:
            raise AssertionError(f"{seen} examples of {order.n} were given")

    return epoch


def _calls(folder: Path, shards: Path) -> Iterator[Row]:
    strace = shutil.which("strace")
    if strace is None:
        print("P3: strace is not here, so opens and reads are not counted", file=sys.stderr)
        return
    ours, theirs = _counted(strace, shards), _counted(strace, folder)
    for kind in CALLS:
        yield Row(
            id="P3",
            work=f"{kind} per 1,000 examples of shards",
            peer="of the folder",
            ours=ours[kind],
            theirs=theirs[kind],
            target=0.5,
            better="lower",
            spread=0.0,
            note=f"{ours[kind]:,.0f} and {theirs[kind]:,.0f}, of the files of the data alone",
        )


def _counted(strace: str, path: Path) -> dict[str, float]:
    """Calls per 1,000 examples on files below ``path`` in one epoch."""
    calls = ",".join(name for names in CALLS.values() for name in names)
    program = "from benchmarks import p03_shards; p03_shards.epoch()"
    # -P would count by path but for reads of descriptors in threads; -y names their files.
    done = subprocess.run(  # noqa: S603 - ours
        [strace, "-f", "-y", "-e", f"trace={calls}", sys.executable, "-c", program, str(path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        errors="replace",
    )
    (examples,) = map(int, re.findall(r"^examples (\d+)$", done.stdout, re.M))
    mine = [line for line in done.stderr.splitlines() if f"{path}/" in line]
    return {
        kind: 1000 / examples * sum(any(f"{name}(" in line for name in names) for line in mine)
        for kind, names in CALLS.items()
    }


def epoch() -> None:
    """What is run under strace: an epoch of the set that the command line names."""
    feeding.alone()
    source = feeding.feed(Path(sys.argv[1]))
    for _ in source.training(0, 0, feeding.SIZE).take(source.steps_per_epoch):
        pass
    print(f"examples {len(source.index)}")
