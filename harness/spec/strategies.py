"""The phases that ``training.strategy`` stands for."""

from __future__ import annotations

from typing import Any

from harness.spec.models_phases import FEATURE_EXTRACTION

_HEAD = {**FEATURE_EXTRACTION, "epochs": 5}
_STEP = 32
"""Pixels: most backbones halve their pictures five times."""

FIXED: dict[str, list[dict[str, Any]]] = {
    "feature_extraction": [FEATURE_EXTRACTION],
    # The head first, so that its first, large gradients do not undo what was pretrained.
    "fine_tune": [
        _HEAD,
        {
            "name": "top",
            "epochs": 5,
            "unfreeze": "50%",
            "learning_rate": {"head": 1e-4, "backbone": 1e-5},
            "start_from": "best",
        },
    ],
    "multi_step": [
        _HEAD,
        {
            "name": "top",
            "epochs": 3,
            "unfreeze": "30%",
            "learning_rate": {"head": 1e-4, "backbone": 5e-5, "decay_per_block": 0.9},
            "start_from": "best",
        },
        {
            "name": "more",
            "epochs": 3,
            "unfreeze": "70%",
            "learning_rate": {"head": 5e-5, "backbone": 2e-5, "decay_per_block": 0.9},
            "start_from": "best",
        },
        {
            "name": "all",
            "epochs": 3,
            "unfreeze": "all",
            "learning_rate": {"head": 2e-5, "backbone": 1e-5, "decay_per_block": 0.9},
            "start_from": "best",
        },
    ],
    "full": [
        {
            "name": "all",
            "epochs": 10,
            "unfreeze": "all",
            "learning_rate": {"head": 1e-3, "backbone": 1e-5},
        },
    ],
}
PROGRESSIVE = "progressive_resize"
NAMES = (*FIXED, PROGRESSIVE)


def phases_of(strategy: str, image_size: int) -> list[dict[str, Any]]:
    """The phases of a strategy of :data:`NAMES`.

    Args:
        image_size: pixels of ``data.image_size``, to which ``progressive_resize`` grows.
    """
    if strategy != PROGRESSIVE:
        return FIXED[strategy]
    sizes = {"small": _rounded(image_size * 0.5), "middle": _rounded(image_size * 0.75)}
    if sizes["small"] == sizes["middle"]:
        del sizes["middle"]
    return [
        *(
            {"name": name, "epochs": 4, "learning_rate": 1e-3, "image_size": size}
            for name, size in sizes.items()
            if size < image_size
        ),
        {
            "name": "large",
            "epochs": 3,
            "unfreeze": "50%",
            "learning_rate": {"head": 1e-4, "backbone": 1e-5},
            "image_size": image_size,
        },
    ]


def _rounded(pixels: float) -> int:
    return max(_STEP, round(pixels / _STEP) * _STEP)
