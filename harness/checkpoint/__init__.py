"""Checkpoints: commit protocol, verified restore, retention.  Knows nothing of models.

:class:`~harness.checkpoint.store.Store` writes and restores; :mod:`~harness.checkpoint.manifest`
lists and verifies without TensorFlow.
"""
