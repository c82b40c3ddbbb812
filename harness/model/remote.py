"""Backbones that lie elsewhere, and where they are kept once they are fetched.

Free of TensorFlow, so that a login node can fetch them.  A module of the Hub is the folder that
tensorflow_hub itself would make, so each finds what the other has fetched; the weights of an
application of Keras are the file that Keras would make.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from harness.errors import DataError, UsageError
from harness.model.archives import content_name
from harness.model.keras_weights import published
from harness.model.pinned import is_saved_model
from harness.model.role import BACKBONE, PREPROCESSOR, Role
from harness.spec.handles import archive_of
from harness.spec.keras_names import keras_name
from harness.spec.models_model import Backbone

IMAGENET = "imagenet"
OFFLINE = "HARNESS_OFFLINE"
"""With 1, nothing is fetched: what is not in the cache is missing."""
MODULES, KERAS = "tfhub", "keras"
"""Folders of the modules and of Keras in the cache root."""
_PIECE = 1 << 20
_ADDRESS = "https://"
# Its modules are asked of another host, as tensorflow_hub's compressed_module_resolver.py has it.
_CHINA = "https://hub.tensorflow.google.cn/"
_OF_CHINA = "https://gcs.tensorflow.google.cn/tfhub-modules/{}.tar.gz"
_COMPRESSED = ("tf-hub-format", "compressed")


@dataclass(frozen=True)
class Shelves:
    """Where fetched backbones are: the folder of modules, and that of the weights of Keras."""

    modules: Path
    models: Path

    @classmethod
    def of(cls, environment: Mapping[str, str], root: Path | None = None) -> Shelves:
        """As TensorFlow Hub and Keras look for them.

        Args:
            environment: ``TFHUB_CACHE_DIR`` and ``KERAS_HOME`` go first, where they are set.
            root: the cache root; None where the environment is prepared, else it is as without
                harness.
        """
        modules, models = environment.get("TFHUB_CACHE_DIR"), environment.get("KERAS_HOME")
        if modules is None:
            modules = str(root / MODULES if root else Path(tempfile.gettempdir(), "tfhub_modules"))
        if models is None:
            models = str(root / KERAS if root else Path("~", ".keras"))
        return cls(Path(modules).expanduser(), Path(models).expanduser() / "models")


@dataclass(frozen=True)
class Remote:
    """A backbone that can be fetched.

    Attributes:
        address: what is asked for it.
        path: of its folder, or of its file of weights, in the cache.
        checksum: MD5 or SHA-256 (hex) of that file, where whoever published it says it.
        role: of which of a spec's modules errors are.
        archive: the file that it is unpacked from, where no address is asked.
    """

    handle: str
    address: str
    path: Path
    checksum: str | None = None
    is_module: bool = True
    role: Role = BACKBONE
    archive: Path | None = None

    def is_here(self) -> bool:
        """Whether it is in the cache.

        Raises:
            DataError: a folder of its name is there, and is no SavedModel.
        """
        if not self.is_module:
            return self.path.is_file()
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return False
        if not is_saved_model(self.path):
            raise DataError(
                f"what the cache holds of the {self.role.name} is no SavedModel",
                got=f"{self.handle}: {self.path} without saved_model.pb",
                allowed="the files of a SavedModel, with saved_model.pb right in that folder",
                action="remove the folder, and run the same command again",
                path=self.role.field,
            )
        return True

    @property
    def bytes(self) -> int:
        """Of what is there."""
        return size_of(self.path)


def remote_of(
    backbone: Backbone, sizes: Sequence[int], shelves: Shelves, role: Role = BACKBONE
) -> Remote | None:
    """What of a backbone is fetched, or unpacked; None where nothing is.

    Args:
        sizes: of the pictures that it is to take, in pixels; with one alone some applications
            have weights of their own.

    Raises:
        DataError: it is an archive, which cannot be read.
    """
    handle, name = backbone.handle, keras_name(backbone.handle)
    if name is not None and backbone.weights in (None, IMAGENET):
        found = published(name, sizes[0] if len(sizes) == 1 else None)
        path = shelves.models / found.file
        return Remote(handle, found.address, path, found.checksum, is_module=False)
    archive = archive_of(handle)
    if archive is not None:
        path = shelves.modules / content_name(archive, role)
        return Remote(handle, str(archive), path, role=role, archive=archive)
    if not handle.startswith(_ADDRESS):
        return None
    return Remote(handle, _compressed(handle), shelves.modules / module_name(handle), role=role)


def remotes_of(backbone: Backbone, sizes: Sequence[int], shelves: Shelves) -> list[Remote]:
    """What is fetched or unpacked of a backbone and its preprocessor; nothing where both lie here
    already.

    Raises:
        DataError: see :func:`remote_of`.
    """
    found = [remote_of(backbone, sizes, shelves)]
    if backbone.preprocessor is not None:
        found.append(remote_of(Backbone(handle=backbone.preprocessor), (), shelves, PREPROCESSOR))
    return [remote for remote in found if remote is not None]


def module_name(handle: str) -> str:
    """Name of the folder of a module: as TensorFlow Hub calls it."""
    return hashlib.sha1(handle.encode("utf8"), usedforsecurity=False).hexdigest()


def missing(remote: Remote, why: str = "it is not there") -> DataError:
    """The error of a backbone that is not in the cache and is not fetched.

    Args:
        why: what stands against it.
    """
    what = "SPEC" if remote.role == BACKBONE else shlex.quote(remote.handle)
    if remote.archive is not None:
        return DataError(
            f"the {remote.role.name} has not been unpacked into the cache",
            got=f"{remote.archive}: {why} ({remote.path})",
            allowed="an archive that `harness stage` or `harness submit` has unpacked",
            action=f"run `harness stage {what}`",
            path=remote.role.field,
        )
    return DataError(
        f"the {remote.role.name} is not in the cache",
        got=f"{remote.handle}: {why} ({remote.path})",
        allowed="an address that this machine reaches, or a backbone that was staged before",
        action=f"run `harness stage {what}` where there is internet and the same cache; or fetch "
        f"it anywhere, `curl -fLo FILE {shlex.quote(remote.address)}`, copy FILE to this cluster, "
        "and "
        f"run `harness stage {what} --from FILE`",
        path=remote.role.field,
    )


def is_offline(environment: Mapping[str, str]) -> bool:
    """Whether nothing is to be fetched.

    Raises:
        UsageError: ``HARNESS_OFFLINE`` is neither 0 nor 1.
    """
    said = environment.get(OFFLINE, "")
    if said not in ("", "0", "1"):
        raise UsageError(
            f"{OFFLINE} is no switch",
            got=repr(said),
            allowed="1 (fetch nothing), 0",
            action=f"export {OFFLINE}=1, or unset it",
        )
    return said == "1"


def checksum_kind(said: str | None) -> hashlib._Hash:
    """What makes a checksum of the length of ``said``: MD5, or SHA-256."""
    if said is not None and len(said) == 2 * hashlib.sha256().digest_size:
        return hashlib.sha256()
    return hashlib.md5(usedforsecurity=False)


def has_checksum(path: Path, checksum: str | None) -> bool:
    """Whether a file has it; where none is known, any has."""
    if checksum is None:
        return True
    whole = checksum_kind(checksum)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            whole.update(piece)
    return whole.hexdigest() == checksum


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what vanishes meanwhile counts nothing."""
    if path.is_file():
        return path.stat().st_size
    found = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                found += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
            except OSError:
                continue
    return found


def _compressed(handle: str) -> str:
    """The address of a module's archive: the protocol of TensorFlow Hub."""
    if handle.startswith(_CHINA):
        return _OF_CHINA.format(handle.removeprefix(_CHINA))
    parts = urlsplit(handle)
    asked = [*parse_qsl(parts.query, keep_blank_values=True), _COMPRESSED]
    return urlunsplit(parts._replace(query=urlencode(asked)))
