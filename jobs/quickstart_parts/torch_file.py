"""Reads weights out of the old torch file format with numpy alone.

A file written by ``torch.save`` before torch 1.6 holds, one after the other: three pickles (a
magic number, the protocol, facts about the machine), the pickled object, in which every tensor
is a reference to a storage, the pickled list of storage keys, and then each storage as an int64
count and its raw little-endian data.

A pickle is code, so the unpickler knows the names that such a file needs and refuses all others.
"""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class _Storage:
    """One flat block of numbers; filled after the object that refers to it was unpickled."""

    def __init__(self, dtype: np.dtype[Any], size: int) -> None:
        self.dtype = dtype
        self.size = size
        self.values: np.ndarray | None = None


class _Tensor:
    """A view into a storage: element offset, shape and strides in elements."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple, strides: tuple) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        """The tensor as a contiguous numpy array."""
        values = self.storage.values
        assert values is not None, "the storages are read before the arrays are asked for"
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape or not 0 <= self.offset <= last < values.size:
            raise ValueError(f"tensor reaches to element {last} of a storage of {values.size}")
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, [s * values.itemsize for s in self.strides]
        )
        return np.ascontiguousarray(view)


def _rebuild(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


_NAMES = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Reader(pickle.Unpickler):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = _NAMES.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which is refused")
        return found

    def persistent_load(self, reference: Any) -> _Storage:
        kind, dtype, key, _location, size, *_ = reference
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"unknown reference of kind {kind!r}")
        return self.storages.setdefault(key, _Storage(dtype, size))


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The named tensors of a file in the old torch format, in the order of the file.

    Raises:
        ValueError: the file is of another format, or shorter than it says.
        pickle.UnpicklingError: it asks for a name that tensors do not need.
    """
    with path.open("rb") as file:
        head = [_Reader(file).load() for _ in range(3)]
        if head[:2] != [_MAGIC, _PROTOCOL]:
            raise ValueError(f"{path} is not in the old torch format")
        reader = _Reader(file)
        named = reader.load()
        for key in _Reader(file).load():
            storage = reader.storages[key]
            (count,) = np.frombuffer(file.read(8), "<i8")
            data = file.read(int(count) * storage.dtype.itemsize)
            storage.values = np.frombuffer(data, storage.dtype)
            if count != storage.size or storage.values.size != storage.size:
                raise ValueError(f"{path}: storage {key} holds {count} of {storage.size} numbers")
    return {name: tensor.array() for name, tensor in named.items() if tensor.shape != ()}
