"""What a device other than the host's is fed with: the same batches, there before they are due."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PROGRAM = Path(__file__).with_name("device_feed.py")


def test_the_batches_of_a_device_are_those_of_the_host_and_are_there(
    tmp_path: Path, write_pictures: Callable[..., Path]
) -> None:
    write_pictures(tmp_path, ["blue", "green", "red"], 9, 16)
    (tmp_path / "red" / "004.png").write_bytes(b"no picture")
    command = [sys.executable, str(PROGRAM), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "batches": 10,
        "devices": ["CPU:1"],
        "lost": [["red/004.png"]] * 2,
        "texts stay": True,
    }
