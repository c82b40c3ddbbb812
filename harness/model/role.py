"""Which of a spec's modules an error is of.  Free of TensorFlow."""

from __future__ import annotations

from typing import NamedTuple


class Role(NamedTuple):
    """Which of a spec's modules an error is of, and the field that names it."""

    name: str = "backbone"
    field: str = "backbone.handle"


BACKBONE, PREPROCESSOR = Role(), Role("preprocessor", "backbone.preprocessor")
