"""Adaptation to a target domain: losses on features, and batch-norm statistics."""
