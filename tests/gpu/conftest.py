"""These tests need GPUs: without one they fail, so nobody takes them for passed."""

from __future__ import annotations

import shutil
import subprocess

import pytest


@pytest.fixture(scope="session", autouse=True)
def gpus() -> list[str]:
    """Bus ids of the GPUs of this machine, as nvidia-smi lists them."""
    if shutil.which("nvidia-smi") is None:
        pytest.exit("there is no nvidia-smi here, so no GPU", returncode=1)
    told = subprocess.run(
        ["nvidia-smi", "--query-gpu=pci.bus_id", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = told.stdout.split()
    if told.returncode or not found:
        pytest.exit(f"nvidia-smi finds no GPU here: {told.stdout}{told.stderr}", returncode=1)
    return found


@pytest.fixture(scope="session", autouse=True)
def _this_process_takes_no_gpu(gpus: list[str]) -> None:
    """What is tested runs in processes of its own, and needs the memory."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
