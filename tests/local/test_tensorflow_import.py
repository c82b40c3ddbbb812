"""TensorFlow imported quietly: its chatter goes to the log, what it says later to the user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pathlib import Path
from harness.worker.environment import import_tensorflow
import_tensorflow(Path(sys.argv[1]))
import logging
import tensorflow as tf
tf.get_logger().warning("said by TensorFlow")
logging.getLogger("absl").warning("said by absl")
print("said by us", file=sys.stderr)
"""

# Hub's layer would import it: some seconds, and a second Keras beside the one in use.
NO_KERAS_3 = """
import sys
from harness.model.backbone import Called, load_hub
from pathlib import Path
load_hub(Path(sys.argv[1]), "hub:x", "1", Called())
print("keras" in sys.modules)
"""


def test_a_hub_module_is_loaded_without_another_keras(tiny_backbone: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_KERAS_3, str(tiny_backbone)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_what_tensorflow_logs_after_its_import_reaches_the_user(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "log")],
        capture_output=True,
        text=True,
        check=True,
    )
    for said in ("said by TensorFlow", "said by absl", "said by us"):
        assert said in done.stderr
    assert "Logging error" not in done.stderr
    assert "Traceback" not in done.stderr
