"""What kinds of examples there are, as far as their files go.  Free of TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Medium:
    """A kind of examples.

    Attributes:
        name: as tasks begin with it.
        one, many: what messages call an example, and several.
        extensions: what the names of their files end in; the content decides, not which of these.
    """

    name: str
    one: str
    many: str
    extensions: tuple[str, ...]

    @property
    def kinds(self) -> str:
        """The endings in words."""
        return ", ".join(self.extensions)


IMAGE = Medium("image", "picture", "images", ("bmp", "gif", "jpeg", "jpg", "png", "webp"))
"""What TensorFlow's decoder reads; WebP not in its older versions."""
TEXT = Medium("text", "text", "texts", ("txt",))
"""UTF-8."""

AUDIO = Medium("audio", "recording", "recordings", ("flac", "wav"))
"""What libsndfile reads of these."""

_ALL = {medium.name: medium for medium in (IMAGE, TEXT, AUDIO)}


def medium_of(name: str) -> Medium:
    """The medium that ``Spec.medium`` names."""
    return _ALL[name]
