"""What a run shows of itself: metric files, TensorBoard, progress, goodput, heartbeat."""

from harness.observe.eta import Eta
from harness.observe.goodput import Goodput
from harness.observe.jsonl import JsonlWriter
from harness.observe.progress import Progress
from harness.observe.pulse import Heartbeat
from harness.observe.tensorboard import TensorBoardWriter
from harness.observe.writers import MemoryWriter, MetricWriter, MultiWriter

__all__ = [
    "Eta",
    "Goodput",
    "Heartbeat",
    "JsonlWriter",
    "MemoryWriter",
    "MetricWriter",
    "MultiWriter",
    "Progress",
    "TensorBoardWriter",
]
