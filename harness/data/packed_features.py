"""Names of what stands in the records of a packed set.  Free of TensorFlow."""

from __future__ import annotations

from typing import NamedTuple

_FEATURES = (
    "encoded",
    "filename",
    "class/label",
    "class/text",
    "weight",
    "group",
    "class/labels",
    "targets",
)


class Features(NamedTuple):
    """Names of the features of a record; those of pictures are what TensorFlow's ImageNet scripts
    made common."""

    encoded: str
    filename: str
    label: str
    text: str
    weight: str
    group: str
    labels: str
    targets: str

    @classmethod
    def of(cls, medium: str) -> Features:
        """Those of a medium."""
        return cls(*(f"{medium}/{name}" for name in _FEATURES))
