"""TFRecord files of a few records."""

from __future__ import annotations

from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow")
from harness.data.record_files import RecordOptions  # noqa: E402
from tests.unit.record_helpers import example, write_records  # noqa: E402

OPTIONS = RecordOptions("image/encoded", "label")


NAMES = ("ant", "bee", "cat")


def records(count: int, **more) -> list[bytes]:
    return [
        example({"image/encoded": b"picture %d" % n, "label": NAMES[n % 3], "n": n} | more)
        for n in range(count)
    ]


@pytest.fixture
def folder(tmp_path) -> Path:
    for shard in range(2):
        name = f"train-{shard:05d}-of-00002"
        write_records(tmp_path / name, records(5))
    return tmp_path
