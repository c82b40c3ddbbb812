"""Opens the metric writers of an attempt."""

from __future__ import annotations

from collections.abc import Callable

from harness.data.content import examples_in
from harness.observe.jsonl import JsonlWriter
from harness.observe.tensorboard import TensorBoardWriter
from harness.observe.writers import MultiWriter
from harness.runs.paths import RunPaths
from harness.spec import Spec, dump_spec
from harness.worker.feeds import Feeds

_EXAMPLES = 16


def open_writers(
    paths: RunPaths, attempt: int, spec: Spec, allowed: Callable[[], None]
) -> MultiWriter:
    """``metrics.jsonl`` and TensorBoard's event files, as one writer.

    Args:
        allowed: raises where this attempt must not write any more.
    """
    media = spec.logging.images and not spec.data.sensitive
    return MultiWriter(
        [
            JsonlWriter(paths, attempt),
            TensorBoardWriter(paths.tensorboard, access=spec.access, media=media),
        ],
        allowed,
    )


def show_beginning(writer: MultiWriter, spec: Spec, feeds: Feeds) -> None:
    """The spec as text, and a few training examples as the model will see them."""
    writer.text("spec", "\n".join(f"    {line}" for line in dump_spec(spec).splitlines()))
    if spec.logging.images and not spec.data.sensitive and spec.medium != "audio":
        batch = next(iter(feeds.train.training(0, 0, spec.image_size_of(0))))
        good = batch["mask"].numpy() > 0
        examples = examples_in(batch).numpy()[good][:_EXAMPLES]
        if spec.medium == "image":
            writer.images(0, "inputs", examples, split="train")
        elif spec.medium == "text":
            shown = "\n".join(
                f"    {text}" for one in examples for text in one.decode().split("\n")
            )
            writer.text("inputs", shown)
