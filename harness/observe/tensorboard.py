"""TensorBoard event files in the layout of the Keras callback.

``train/``, ``validation/`` and ``test/`` below one folder.  Points of a whole epoch are
``epoch_<name>`` by epoch in each; validation and test also have
``evaluation_<name>_vs_iterations`` by step.  Points by step of training are ``batch_<name>``;
names with a slash and the few of :data:`PLAIN` are no means over a batch and keep their name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.observe import eventfiles
from harness.observe.appendfile import AppendFile
from harness.observe.png import encode_png
from harness.observe.writers import check_images, check_split, check_step, of_epoch
from harness.runs.files import GROUP, PRIVATE, is_group_folder, make_dir

if TYPE_CHECKING:
    import numpy as np

FOLDERS = {"train": "train", "val": "validation", "test": "test"}
PLAIN = frozenset({"learning_rate", "examples_per_s", "steps_per_s"})


class TensorBoardWriter:
    """Writes event files; imports the ``tensorboard`` package at first use, never TensorFlow.

    Each call is one write to the file, so a TensorBoard that looks on sees it at once, and a
    full disk is raised by the call that meets it.  A split has one event file, or two for the
    moment of a rollback.

    Args:
        folder: the folder of TensorBoard; made if need be.
        access: ``private`` or ``group``; None means as ``folder`` is.
        media: False leaves pictures out (``data.sensitive``).
    """

    def __init__(self, folder: Path, *, access: str | None = None, media: bool = True) -> None:
        self._folder = Path(folder)
        if access is None:
            shared = self._folder.exists() and is_group_folder(self._folder)
            access = GROUP if shared else PRIVATE
        self._access = access
        self._media = media
        self._files: dict[str, AppendFile] = {}
        self._paths: dict[str, Path] = {}  # files that end in a whole record, by split
        self._texts: dict[str, str] = {}
        self._step = 0
        self._closed = False

    def scalars(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        split: str,
        epoch: int,
        phase: str,
        epoch_end: bool | None = None,
    ) -> None:
        """See :class:`~harness.observe.writers.MetricWriter`; ``phase`` is not shown."""
        step = check_step(step)
        whole = of_epoch(check_split(split), epoch_end)
        pieces: list[bytes] = []
        by_step = {_by_step(name, split): value for name, value in values.items()}
        if split != "train" or not whole:
            pieces.append(_summary(step, (_scalar(tag, v) for tag, v in by_step.items())))
        if whole:
            pieces.append(eventfiles.session_mark(step, "CHECKPOINT"))
            points = (_scalar(f"epoch_{name}", value) for name, value in values.items())
            pieces.append(_summary(check_step(epoch), points))
        self._write(split, step, b"".join(pieces))

    def images(self, step: int, tag: str, images: np.ndarray, *, split: str) -> None:
        """Writes pictures, uint8 [N, H, W, 3], as one point of ``tag``."""
        check_images(images)
        check_split(split)
        if self._media and len(images):
            piece = _summary(check_step(step), [_pictures(tag, images)])
            self._write(split, step, piece)

    def text(self, tag: str, text: str) -> None:
        """Writes a text beside the training curves; one that is there already is not repeated."""
        if self._texts.get(tag) != text:
            self._write("train", self._step, _summary(self._step, [_text(tag, text)]))
            self._texts[tag] = text

    def rollback(self, step: int) -> None:
        """Takes points of later steps out of the files of all splits."""
        self._close_files()
        self._step = check_step(step)
        self._paths.clear()
        for split, name in FOLDERS.items():
            # The end of the run tests again, so what an earlier end has written goes.
            path = eventfiles.go_back(self._folder / name, -1 if split == "test" else step)
            if path is not None:
                self._paths[split] = path
        self._texts = _texts_of(self._folder / FOLDERS["train"])

    def flush(self) -> None:
        """Waits until all is on disk."""
        for file in self._files.values():
            file.sync()

    def close(self) -> None:
        """Flushes and closes; twice is fine."""
        self._closed = True
        self._close_files()

    def _write(self, split: str, step: int, piece: bytes) -> None:
        if self._closed:
            raise ValueError(f"the writer of {self._folder} is closed")
        if split not in self._files:
            self._files[split] = self._open(split)
        self._files[split].write(piece)
        self._step = max(self._step, step)

    def _open(self, split: str) -> AppendFile:
        folder = make_dir(self._folder / FOLDERS[split], self._access)
        if split in self._paths:
            return AppendFile(self._paths[split])
        # Not one that an earlier process left: it may end in a torn record.
        return eventfiles.new_file(folder)

    def _close_files(self) -> None:
        files, self._files = self._files, {}
        errors = []
        for file in files.values():
            for call in (file.sync, file.close):
                try:
                    call()
                except Exception as error:
                    errors.append(error)
        if errors:
            raise errors[0]


def _by_step(name: str, split: str) -> str:
    if split != "train":
        return f"evaluation_{name}_vs_iterations"
    return name if name in PLAIN or "/" in name else f"batch_{name}"


def _summary(step: int, values: Iterable[Any]) -> bytes:
    from tensorboard.compat.proto import summary_pb2

    return eventfiles.event(step=step, summary=summary_pb2.Summary(value=values))


def _scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, types_pb2
    from tensorboard.plugins.scalar import metadata

    # A float32 proto holds any double, the ones out of its range as infinite.
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[float(value)])
    tensor.tensor_shape.SetInParent()
    described = metadata.create_summary_metadata(display_name="", description="")
    return summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=described)


def _pictures(tag: str, images: np.ndarray) -> Any:
    from tensorboard.plugins.image import metadata

    size = [str(images.shape[2]).encode(), str(images.shape[1]).encode()]
    strings = size + [encode_png(image) for image in images]
    described = metadata.create_summary_metadata(display_name="", description="")
    return _strings(tag, strings, [len(strings)], described)


def _text(tag: str, text: str) -> Any:
    from tensorboard.plugins.text import metadata

    described = metadata.create_summary_metadata(display_name="", description="")
    return _strings(tag, [text.encode("utf-8", "replace")], [], described)


def _strings(tag: str, strings: list[bytes], shape: list[int], described: Any) -> Any:
    from tensorboard.compat.proto import (
        summary_pb2,
        tensor_pb2,
        tensor_shape_pb2,
        types_pb2,
    )

    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims),
        string_val=strings,
    )
    return summary_pb2.Summary.Value(tag=tag, tensor=tensor, metadata=described)


def _texts_of(folder: Path) -> dict[str, str]:
    """The last text of each tag in the event files of ``folder``."""
    from tensorboard.compat.proto import event_pb2
    from tensorboard.plugins.text import metadata

    texts = {}
    for path in eventfiles.our_files(folder):
        for data, _ in eventfiles.read_records(path):
            for value in event_pb2.Event.FromString(data).summary.value:
                if value.metadata.plugin_data.plugin_name == metadata.PLUGIN_NAME:
                    texts[value.tag] = value.tensor.string_val[0].decode()
    return texts
