"""What ``run.json`` records at the start of an attempt: machine, versions, what is trained on."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from harness.distribute.choose import Choice
from harness.runs.environment import environment_facts


def start_facts(choice: Choice) -> dict[str, Any]:
    """Facts of this process: versions of all imported packages, host, devices, distribution."""
    devices = []
    for device in tf.config.get_visible_devices():
        details = tf.config.experimental.get_device_details(device)
        devices.append(
            {"kind": device.device_type, "name": details.get("device_name", device.name)}
        )
    return {
        **environment_facts(),
        "devices": devices,
        "distribution": {"name": choice.distribution.name, "why": choice.why},
    }
