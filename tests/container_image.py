"""The image of containers/Dockerfile, really built: on a Debian made here, from wheels of an index.

Nothing is pulled from a registry of images, and what podman keeps lies in a folder of the test.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness.launch.horovod_build import Asked, make_plan
from harness.launch.horovod_options import HOROVOD
from harness.worker.environment import cache_root
from tests.unit.rights import lacking, need_root
from tests.wheels import ROOT, build_wheel

INSTALLER = ROOT / ".ci" / "system-packages"
NAME = "harness"
RELEASE, PYTHON = "bookworm", "3.11"
"""The base image, and the Python in it."""
LONGEST_S = 1500
SECRETS = (
    ".git/config",
    "runs/secret",
    ".env",
    "harness/secret.key",
    ".config/harness/config.yaml",
)
"""Files of a user in the checkout of which nothing may reach the image."""


@dataclass(frozen=True)
class Image:
    """A built image: its name in podman's store, and the folder in which its files can be read."""

    store: Path
    name: str
    root: Path

    def podman(self, *words: str) -> str:
        """What a command of podman prints, with the store of this image."""
        return run(*_podman(self.store), *words)


def have_tools() -> bool:
    """Whether images can be built here."""
    return os.geteuid() == 0 and not _missing()


def _missing() -> list[str]:
    return run(str(INSTALLER), "--missing", "containers").split()


def need_tools() -> None:
    """Goes on only where images can be built."""
    need_root()
    missing = _missing()
    if missing:
        lacking(f"missing: {' '.join(missing)}; next: sudo .ci/system-packages containers")


def run(*words: str, folder: Path | None = None) -> str:
    """Standard output of a command that must succeed; otherwise the error has what it said."""
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=LONGEST_S, check=False
    )
    assert done.returncode == 0, f"{words[:3]}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


class Building:
    """A process that builds the image in minutes, and stands back behind the tests meanwhile.

    All of it is in ``folder``, and gone at the end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        command = ["nice", sys.executable, "-m", "tests.container_image", str(folder)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Building:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.communicate()
        remove_image(self._folder)

    @functools.cache  # noqa: B019  there is one in a process of tests
    def image(self) -> Image:
        """Waits for it."""
        said, _ = self._process.communicate(timeout=LONGEST_S)
        assert self._process.returncode == 0, said
        return Image(self._folder / "store", NAME, Path(said.splitlines()[-1]))


def build_image(folder: Path) -> Image:
    """Builds the image, all in ``folder``; :func:`remove_image` takes it away again."""
    store, base = folder / "store", folder / "base.tar"
    horovod = horovod_wheel()
    with ThreadPoolExecutor() as pool:
        made = pool.submit(run, "mmdebstrap", "--quiet", "--variant=minbase", RELEASE, str(base))
        context = make_context(folder, horovod)
        made.result()
    podman = _podman(store)
    run(*podman, "import", "--quiet", str(base), "harness-base")
    base.unlink()
    run(
        *podman,
        *("build", "--quiet", "--isolation=chroot", "--layers=false", f"--tag={NAME}"),
        *("--build-arg=BASE=localhost/harness-base", "--build-arg=PIP_NO_INDEX=1"),
        *("--file", "containers/Dockerfile", "."),
        folder=context,
    )
    shutil.rmtree(context)
    root = run(*podman, "image", "mount", NAME).strip()
    return Image(store, NAME, Path(root))


def remove_image(folder: Path) -> None:
    """Unmounts and removes all that :func:`build_image` has made."""
    podman = _podman(folder / "store")
    run(*podman, "image", "umount", "--all", "--force")
    run(*podman, "rmi", "--all", "--force")
    # The store mounts itself, so that mounts in it stay its own.
    for mounted in ("store/overlay", "store"):
        subprocess.run(["umount", str(folder / mounted)], capture_output=True, check=False)
    shutil.rmtree(folder)


def _podman(store: Path) -> list[str]:
    return ["podman", "--root", str(store), "--runroot", str(store.with_name("run"))]


def horovod_wheel() -> Path | None:
    """The wheel that ``make horovod`` has kept, if it is for the Python of the image."""
    if sys.version_info[:2] != tuple(map(int, PYTHON.split("."))):
        return None
    asked = Asked(parts=("gloo", "mpi"))
    wheel = make_plan(asked, os.environ, cache_root(dict(os.environ), print)).wheel
    if wheel is None:
        lacking("no Horovod with MPI in the cache; next: make horovod")
    return wheel


def get_sources(wheels: Path) -> None:
    """What the image compiles Horovod from, in minutes, where there is no wheel of it."""
    words = ["--no-binary", ":all:", "--no-deps", "--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels)]
    run(*pip, *words, f"horovod=={HOROVOD}")
    run(*pip, "cmake>=3.18,<5")


def make_context(folder: Path, horovod: Path | None) -> Path:
    """What a checkout holds, with wheels of all that is installed, and secrets of its user."""
    context, wheels = folder / "context", folder / "wheels"
    own = build_wheel(context, wheels)
    # The Horovod of the cache is for the TensorFlow of this environment.
    constraints = folder / "constraints.txt"
    fixed = [f"{name}=={metadata.version(name)}" for name in ("tensorflow", "tf-keras")]
    constraints.write_text("\n".join(fixed) + "\n")
    options = ["--quiet", "--only-binary=:all:", "--python-version", PYTHON]
    options += ["--constraint", str(constraints), "--dest", str(wheels)]
    tools = ["psutil", "pyyaml", "cloudpickle", "packaging", "setuptools<81", "wheel"]
    run(sys.executable, "-m", "pip", "download", *options, f"{own}[train]", *tools)
    own.unlink()  # the recipe builds it from the checkout
    if horovod is None:
        get_sources(wheels)
    else:
        shutil.copy(horovod, wheels)
    for wheel in wheels.iterdir():
        wheel.rename(context / "containers" / "wheels" / wheel.name)
    for name in SECRETS:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("secret\n")
    return context


if __name__ == "__main__":
    print(build_image(Path(sys.argv[1])).root)
