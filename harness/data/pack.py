"""Writes the shards of a packed data set: standard TFRecord of tf.Example.

The features have the names that TensorFlow's ImageNet scripts made common, so other programs read
them too: ``image/encoded`` (the bytes of the file), ``image/filename`` (the name of the example),
``image/class/label`` (int64) and ``image/class/text``, and where a manifest gives them
``image/weight`` (float) and ``image/group`` (bytes).  In place of the class several labels are
``image/class/labels`` (int64, see :data:`harness.data.multilabel.STATES`) and ``image/class/text``
(the names of those that are present), and numbers are ``image/targets`` (float).  Texts and
recordings have the same ones, under ``text/`` and ``audio/``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

import tensorflow as tf

from harness.data.decode import decode
from harness.data.index import ExampleIndex
from harness.data.pack_plan import QUALITY, PackOptions, Written
from harness.data.packed import FRAME_BYTES, Shard
from harness.data.packed_facts import targets_of
from harness.data.packed_features import Features
from harness.data.packing import Packing
from harness.data.records import RecordIndex, Unreadable
from harness.errors import DataError
from harness.runs.files import file_mode, fsync_dir, sha256_file
from harness.runs.storage import storage_error

_JPEG = b"\xff\xd8\xff"


class _Stopped(Exception):
    """Another shard has failed, or the user has interrupted: this one is given up."""


def pack(
    packing: Packing,
    part: int = 0,
    parts: int = 1,
    workers: int | None = None,
    told: Callable[[int], None] = lambda examples: None,
) -> list[str]:
    """Writes the shards of one part that are not there, several at a time.

    Args:
        workers: shards that are written at a time; None is one for each core.
        told: hears, from any thread, of examples that have been written.

    Returns:
        Names of the examples that could not be decoded and were packed as they are.

    Raises:
        DataError: an example cannot be read.
        StorageError: a shard cannot be written.  Those that were written before stay.
    """
    todo = packing.todo(part, parts)
    undecodable: list[str] = []
    stopping = threading.Event()

    def tell(examples: int) -> None:
        # Asked at each example, so that an interruption does not wait for whole files.
        if stopping.is_set():
            raise _Stopped
        told(examples)

    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        futures: list[Future[Written]] = [
            pool.submit(write_shard, packing, number, tell) for number in todo
        ]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                undecodable += future.result().undecodable
        except BaseException:
            stopping.set()
            for future in futures:
                future.cancel()
            raise
    return sorted(undecodable)


def write_shard(
    packing: Packing, number: int, told: Callable[[int], None] = lambda examples: None
) -> Written:
    """Writes one shard whole, and has it noted.

    Raises:
        DataError: an example cannot be read, or :meth:`Packing.check`.
        StorageError: it cannot be written.
    """
    path = packing.folder / packing.name(number)
    temporary = packing.temporary(number)
    try:
        offsets, labels, content, undecodable = _write(packing, number, temporary, told)
        with temporary.open("rb") as file:
            os.fchmod(file.fileno(), file_mode(packing.folder))
            os.fsync(file.fileno())
        # Read again: what is noted is what the file system gives back.
        shard = Shard(path.name, len(offsets), temporary.stat().st_size, sha256_file(temporary))
        packing.check(number, shard)
        temporary.replace(path)
        fsync_dir(packing.folder)
    except (OSError, tf.errors.OpError) as error:
        if packing.is_done(number):
            # By another process, which has removed all that was on the way.
            return Written(packing.shard(number), array("Q"), Counter(), 0)
        if isinstance(error, OSError):
            raise storage_error(error, path) from error
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    written = Written(shard, offsets, labels, content, undecodable)
    packing.note(number, written)
    return written


def _write(
    packing: Packing, number: int, path: Path, told: Callable[[int], None]
) -> tuple[array[int], Counter[int], int, list[str]]:
    source, at = packing.source, 0
    features = Features.of(packing.options.medium)
    offsets, labels = array("Q"), Counter[int]()
    content_bytes, undecodable = 0, []
    with tf.io.TFRecordWriter(str(path)) as writer:
        for position in packing.positions(number):
            row = packing.rows[position]
            name = source.names[row]
            content = _content(packing, row)
            if packing.options.resize is not None:
                smaller = shrunk(content, packing.options)
                if smaller is None:
                    undecodable.append(name)
                content = smaller or content
            values = _learned(source, row, features) | _more(source, row, features)
            record = example(name, content, features, values)
            writer.write(record)
            offsets.append(at)
            at += len(record) + FRAME_BYTES
            labels[int(source.labels[row])] += 1
            content_bytes += len(content)
            told(1)
    return offsets, labels, content_bytes, undecodable


def _more(source: ExampleIndex, row: int, features: Features) -> dict[str, tf.train.Feature]:
    """What only some sets say of an example."""
    more = {}
    if source.weights:
        weight = tf.train.FloatList(value=[source.weights[row]])
        more[features.weight] = tf.train.Feature(float_list=weight)
    if source.groups:
        more[features.group] = _bytes(source.groups[row].encode())
    return more


def _learned(source: ExampleIndex, row: int, features: Features) -> dict[str, tf.train.Feature]:
    """What is learned of an example, for other readers too: see the top of this file."""
    if source.values is not None:
        numbers = tf.train.FloatList(value=source.values.subset([row]).numbers)
        return {features.targets: tf.train.Feature(float_list=numbers)}
    if source.targets:
        states = targets_of(source, [row])[0].tolist()
        names = zip(source.classes, states, strict=True)
        return {
            features.labels: _whole(*states),
            features.text: _bytes(*(name.encode() for name, state in names if state == 1)),
        }
    label = int(source.labels[row])
    return {features.label: _whole(label), features.text: _bytes(source.classes[label].encode())}


def example(
    name: str, content: bytes, features: Features, more: Mapping[str, tf.train.Feature]
) -> bytes:
    """A serialized ``tf.train.Example``, with ``more`` features in it."""
    values = {features.encoded: _bytes(content), features.filename: _bytes(name.encode()), **more}
    message = tf.train.Example(features=tf.train.Features(feature=values))
    # Maps have no order of their own, and the same data are to give the same files.
    return bytes(message.SerializeToString(deterministic=True))


def shrunk(content: bytes, options: PackOptions) -> bytes | None:
    """The picture with its shorter side at ``options.resize``, encoded again; None: no picture.

    One that is small enough stays as it is, byte for byte.  A JPEG stays a JPEG, all else becomes
    a PNG, which loses nothing.
    """
    assert options.resize is not None, "asked for only with a size"
    try:
        image = decode(tf.constant(content))
    # The second: TensorFlow's message quotes bytes of the file, which need be no text.
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        return None
    height, width = (int(side) for side in image.shape[:2])
    if min(height, width) <= options.resize:
        return content
    ratio = options.resize / min(height, width)
    size = [max(1, round(height * ratio)), max(1, round(width * ratio))]
    smaller = tf.image.resize(image, size, method="area")
    pixels = tf.saturate_cast(tf.round(smaller), tf.uint8)
    if content.startswith(_JPEG):
        encoded = tf.io.encode_jpeg(pixels, quality=options.quality or QUALITY)
    else:
        encoded = tf.io.encode_png(pixels)
    return bytes(encoded.numpy())


def _content(packing: Packing, row: int) -> bytes:
    """The bytes of an example, wherever they are."""
    source = packing.source
    if source.texts:
        return source.texts[row]
    if not isinstance(source, RecordIndex):
        path = source.root / source.names[row]
        return _read(path, source.sizes[row], packing.shown(row))
    try:
        return source.content(row)
    except Unreadable as error:
        raise DataError(
            f"{packing.shown(row)} cannot be read",
            got=str(error),
            action="write that file again, or leave the record out of it",
        ) from None


def _read(path: Path, size: int, shown: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{shown} cannot be read",
            got=str(error.strerror),
            action="put it back, or remove it and pack into a new folder; the shards that are "
            "written stay",
        ) from error
    if len(content) != size:
        raise DataError(
            f"{shown} has changed since the data were listed",
            got=f"{len(content)} bytes",
            allowed=f"{size} bytes",
            action="pack what does not change meanwhile, into a new folder",
        )
    return content


def _bytes(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _whole(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
