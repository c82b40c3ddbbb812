"""Checkpoints: commit protocol, verified restore, retention.  Knows nothing of models.

Importing this needs no TensorFlow; saving and restoring tensors does.  Listing, verifying and
reading the host state do not.
"""

from harness.checkpoint.manifest import (
    CheckpointInfo,
    DamagedCheckpoint,
    Manifest,
    list_checkpoints,
    read_state,
    verify_checkpoint,
)
from harness.checkpoint.snapshot import Restored, Skipped, Snapshot
from harness.checkpoint.store import Store

__all__ = [
    "CheckpointInfo",
    "DamagedCheckpoint",
    "Manifest",
    "Restored",
    "Skipped",
    "Snapshot",
    "Store",
    "list_checkpoints",
    "read_state",
    "verify_checkpoint",
]
