"""Host state of a checkpoint as strict JSON that comes back exactly as it was given.

Plain JSON changes some values in silence: integer keys become strings, tuples become lists, NaN
is not JSON at all.  Here NaN and the infinities are written as ``{"__float__": "nan"}``, and what
cannot come back equal is refused before anything is written.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_FLOAT = "__float__"


def encode_state(state: dict[str, Any]) -> bytes:
    """UTF-8 JSON of ``state``: dict with str keys, list, str, int, float, bool, None.

    Raises:
        TypeError: a value of another type (a tuple, a numpy scalar), naming its path.
        ValueError: a dict with the reserved key ``__float__``.
    """
    if type(state) is not dict:
        raise TypeError(f"state must be a dict, was {type(state).__name__}")
    written = json.dumps(_encode(state, "state"), indent=1, sort_keys=True, allow_nan=False)
    return (written + "\n").encode()


def decode_state(data: bytes) -> dict[str, Json]:
    """The state that :func:`encode_state` was given.

    Raises:
        ValueError: not JSON, or not an object.
    """
    state = json.loads(data, object_hook=_decode_object)
    if not isinstance(state, dict):
        raise ValueError("the state is not a JSON object")
    return state


def _encode(value: Any, path: str) -> Json:
    # Exact types: a subclass (numpy.float64 is a float) would not come back as what it was.
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if kind is list:
        return [_encode(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{path}: keys must be str, was {key!r}")
        if _FLOAT in value:
            raise ValueError(f"{path}: the key {_FLOAT!r} is reserved")
        return {key: _encode(item, f"{path}.{key}") for key, item in value.items()}
    raise TypeError(
        f"{path}: must be dict, list, str, int, float, bool or None, was {kind.__name__}"
    )


def _decode_object(pairs: dict[str, Any]) -> Any:
    if set(pairs) == {_FLOAT}:
        return float(pairs[_FLOAT])
    return pairs
