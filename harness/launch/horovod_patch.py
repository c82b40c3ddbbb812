"""What changes in Horovod's sources: what today's TensorFlow needs, and what sums sooner.

Functions from a file's text to its new text.  Each looks for the very lines it replaces and
refuses where they are not there exactly once: a Horovod that looks otherwise needs a look, not a
guess.  docs/horovod.md tells the reasons at length.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness.errors import EnvironmentNotAble
from harness.launch.horovod_replace import replaced
from harness.launch.horovod_wake import (
    with_idle_time,
    with_waiting_queue,
    with_waiting_queue_declared,
)


class Patch(NamedTuple):
    """One change: of which file, why, and how."""

    file: str
    why: str
    change: Callable[[str], str]


def without_xla_operations(text: str) -> str:
    """``horovod/tensorflow/CMakeLists.txt`` with ``xla_mpi_ops.cc`` left out.

    The headers of XLA that it includes are elsewhere, or no longer, in TensorFlow's package.
    """
    line = 'list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/xla_mpi_ops.cc")\n'
    return replaced(text, line, "")


def with_own_stream_value(text: str) -> str:
    """``horovod/tensorflow/mpi_ops.cc`` with ``AsGpuStreamValue`` defined instead of declared.

    TensorFlow no longer exports the function.  It asks the stream for the handle of the driver's
    stream, which the class in ``stream.h`` still tells; so the definition comes after that header.
    """
    declared = "GpuStreamHandle AsGpuStreamValue(Stream* stream);\n"
    included = (
        '#include "tensorflow/stream_executor/stream.h"\n'
        "#endif // TENSORFLOW_VERSION >= 2011000000\n"
    )
    defined = (
        "namespace stream_executor {\n"
        "namespace gpu {\n"
        "inline GpuStreamHandle AsGpuStreamValue(Stream* stream) {\n"
        "  return static_cast<GpuStreamHandle>(stream->platform_specific_handle().stream);\n"
        "}\n"
        "} // namespace gpu\n"
        "} // namespace stream_executor\n"
    )
    return replaced(replaced(text, declared, ""), included, included + defined)


def without_needless_work(text: str) -> str:
    """``CMakeLists.txt`` with a Gloo that is compiled only if used, and no debug information.

    Gloo is compiled twice otherwise, the second time with the C++17 that TensorFlow needs, and
    nothing is ever linked with the first; and debug information is nine tenths of the library.
    """
    gloo = "    add_subdirectory(third_party/gloo)\n"
    flags = 'CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")\n'
    text = replaced(text, gloo, "    add_subdirectory(third_party/gloo EXCLUDE_FROM_ALL)\n")
    return replaced(
        text, f'string(REPLACE "-O2" "-O3" {flags}', f'string(REPLACE "-O2 -g" "-O3" {flags}'
    )


PATCHES = (
    Patch(
        "horovod/tensorflow/CMakeLists.txt",
        "without the operations for XLA, whose headers moved",
        without_xla_operations,
    ),
    Patch(
        "horovod/tensorflow/mpi_ops.cc",
        "the GPU stream is asked of TensorFlow's stream, not of a function that is gone",
        with_own_stream_value,
    ),
    Patch(
        "CMakeLists.txt",
        "nothing is compiled that is not used, and no debug information is made",
        without_needless_work,
    ),
    Patch(
        "horovod/common/tensor_queue.h",
        "one can wait for the next tensor",
        with_waiting_queue_declared,
    ),
    Patch(
        "horovod/common/tensor_queue.cc",
        "what is added to the queue ends that wait",
        with_waiting_queue,
    ),
    Patch(
        "horovod/common/operations.cc",
        "its thread sleeps while nothing waits to be summed (HOROVOD_IDLE_TIME)",
        with_idle_time,
    ),
)


def apply_patches(source: Path) -> list[str]:
    """Changes the unpacked sources; says what was changed.

    Raises:
        EnvironmentNotAble: a file is missing or does not hold what is to be replaced.
    """
    for patch in PATCHES:
        file = source / patch.file
        try:
            file.write_text(patch.change(file.read_text(encoding="utf-8")), encoding="utf-8")
        except (OSError, ValueError) as error:
            raise EnvironmentNotAble(
                f"the change of {patch.file} does not fit this Horovod",
                got=str(error),
                allowed="the sources of Horovod 0.28.1 as they were released",
                action="leave out --sdist, or give the released file with it",
            ) from error
    return [f"{patch.file}: {patch.why}" for patch in PATCHES]
