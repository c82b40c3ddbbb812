"""Building Horovod: the changes of its sources."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import EnvironmentNotAble
from harness.launch import horovod_build as build
from harness.launch.horovod_patch import PATCHES, apply_patches
from harness.launch.horovod_wake import LOOKS
from tests.unit.horovod_build_helpers import gpu

__all__ = ["gpu"]  # a fixture, found by its name


CMAKE = """\
set(SOURCES)
list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/mpi_ops.cc")
list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/xla_mpi_ops.cc")
add_library(it)
"""


OPERATIONS = """\
namespace gpu {
GpuStreamHandle AsGpuStreamValue(Stream* stream);
}
#if TENSORFLOW_VERSION >= 2011000000
#include "tensorflow/compiler/xla/stream_executor/stream.h"
#else
#include "tensorflow/stream_executor/stream.h"
#endif // TENSORFLOW_VERSION >= 2011000000
int after;
"""


FLAGS = """\
string(REPLACE "-O2" "-O3" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
string(REPLACE "-O2" "-O3" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
if(GLOO)
    add_subdirectory(third_party/gloo)
endif()
    add_subdirectory(third_party/compatible_gloo)
"""


QUEUE_H = """#include <iostream>
class TensorQueue {
  void RemoveJoinTensor();
};
"""


QUEUE = """#include <assert.h>
namespace horovod {
namespace common {
Status One() {
  message_queue_.push(std::move(message));
  return Status::OK();
}
Status Many() {
  for (;;) {
    message_queue_.push(std::move(messages[i]));
  }
  return Status::OK();
}
void Again() {
  message_queue_.push(std::move(message));
}
"""


LOOP = f"bool RunLoopOnce() {{\n{LOOKS}}}\n"


TEXTS = dict(
    zip(
        [patch.file for patch in PATCHES],
        [CMAKE, OPERATIONS, FLAGS, QUEUE_H, QUEUE, LOOP],
        strict=True,
    )
)


def write_sources(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_changes_are_made_and_told(tmp_path: Path) -> None:
    said = apply_patches(write_sources(tmp_path, TEXTS))
    assert len(said) == len(PATCHES)
    cmake = (tmp_path / PATCHES[0].file).read_text()
    assert cmake == "".join(x for x in CMAKE.splitlines(True) if "xla_mpi_ops" not in x)
    lines = (tmp_path / PATCHES[1].file).read_text().splitlines()
    assert "GpuStreamHandle AsGpuStreamValue(Stream* stream);" not in lines
    (defined,) = (n for n, line in enumerate(lines) if "inline GpuStreamHandle" in line)
    assert lines.index("#endif // TENSORFLOW_VERSION >= 2011000000") < defined
    assert defined < lines.index("int after;")
    whole = (tmp_path / PATCHES[2].file).read_text().splitlines()
    changed = [line for line in whole if line not in FLAGS.splitlines()]
    assert [("-O2 -g" in line, "EXCLUDE_FROM_ALL" in line) for line in changed] == [
        (True, False),
        (False, True),
    ]
    queue = (tmp_path / PATCHES[4].file).read_text()
    one, many, again = re.split("Status Many|void Again", queue.partition("Status One")[2])
    assert [part.count("NoteAdded();") for part in (one, many, again)] == [1, 1, 0]
    loop = (tmp_path / PATCHES[5].file).read_text()
    assert loop.count("HOROVOD_IDLE_TIME") == 1 and LOOKS not in loop


@pytest.mark.parametrize("file", TEXTS)
@pytest.mark.parametrize("broken", [lambda text: "", lambda text: text + text, None])
def test_other_sources_are_refused(
    tmp_path: Path, file: str, broken: Callable[[str], str] | None
) -> None:
    write_sources(tmp_path, TEXTS)
    if broken is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(broken(TEXTS[file]))
    with pytest.raises(EnvironmentNotAble, match=rf"{file} does not fit this Horovod.*0\.28\.1"):
        apply_patches(tmp_path)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.file)
def test_a_change_is_made_only_once(patch: Any) -> None:
    with pytest.raises(ValueError, match="there 0 times"):
        patch.change(patch.change(TEXTS[patch.file]))


def test_another_source_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "horovod-0.28.1.tar.gz").write_bytes(b"something else")
    with pytest.raises(EnvironmentNotAble, match=r"is not the source package.*got sha256"):
        build._unpack(tmp_path / "horovod-0.28.1.tar.gz", tmp_path)
    with pytest.raises(EnvironmentNotAble, match="cannot be read"):
        build._unpack(tmp_path / "none.tar.gz", tmp_path)
