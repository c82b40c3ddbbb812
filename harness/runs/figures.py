"""Figures as they are printed."""

from __future__ import annotations


def figure(value: float) -> str:
    """Four decimals, as for an accuracy; six digits of what is much larger or smaller."""
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 100 else f"{value:.6g}"
