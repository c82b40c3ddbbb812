"""Figures as they are printed."""

from __future__ import annotations

from collections.abc import Mapping


def figure(value: float) -> str:
    """Four decimals, as for an accuracy; six digits of what is much larger or smaller."""
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 100 else f"{value:.6g}"


def epoch_line(epoch: int, epochs: int, metrics: Mapping[str, float], improved: bool) -> str:
    """What is said at the end of an epoch, counted from 1."""
    shown = [f"{of}{name}" for of in ("", "val_") for name in ("loss", "accuracy", "mae")]
    words = [f"{name} {figure(metrics[name])}" for name in shown if name in metrics]
    return f"epoch {epoch}/{epochs}  {'  '.join(words)}{'  best so far' if improved else ''}"
