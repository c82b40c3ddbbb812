"""Settings and fixtures that all tests share.

Nothing here imports TensorFlow before a fixture that needs it is asked for.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import pytest

# Fixtures of tests/cluster and of tests/faults: one cluster serves both.
from tests.cluster.serving import cluster, running_cluster

__all__ = ["cluster", "running_cluster"]

ROOT = Path(__file__).resolve().parent.parent

# Before TensorFlow is imported anywhere: quiet, and Keras 2 for those who ask TensorFlow for it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

# Example times vary on shared machines, and a red run must be red again when it is repeated.
hypothesis.settings.register_profile(
    "harness", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True
)
hypothesis.settings.load_profile("harness")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of tests/unit is in the core set."""
    for item in items:
        if ROOT / "tests" / "unit" in item.path.parents:
            item.add_marker("core")


CACHES = {
    name: os.environ.get(name) for name in ("XDG_CACHE_HOME", "TFHUB_CACHE_DIR", "KERAS_HOME")
}


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache root of the session's own, but that Horovod's wheels are not built again."""
    folder = tmp_path_factory.mktemp("cache")
    usual = Path(CACHES["XDG_CACHE_HOME"] or Path.home() / ".cache") / "harness" / "horovod"
    usual.mkdir(parents=True, exist_ok=True)
    (folder / usual.name).symlink_to(usual)
    os.environ["HARNESS_CACHE"] = str(folder)  # for fixtures of more than one test too
    return folder


@pytest.fixture(autouse=True)
def _own_settings(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, _cache: Path
) -> None:
    """No test sees the settings, the scheduler or the features of whoever runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))
    # A run in this process has set these for TensorFlow, and they outlive its test.
    for name, value in CACHES.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    for name in list(os.environ):
        if name.startswith(("SLURM_", "SBATCH_", "SRUN_", "HARNESS_")) or name == "TF_CONFIG":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HARNESS_CACHE", str(_cache))


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


def png(width: int, height: int, colour: Sequence[int]) -> bytes:
    """A PNG of one colour (red, green, blue), made with the standard library alone."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes(colour) * width) * height
    packed = zlib.compress(rows)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="session")
def write_pictures() -> Callable[..., Path]:
    """``write_pictures(folder, classes, each, side=32)``: a folder per class, learnable.

    Every class has a colour of its own, every picture another brightness of it.
    """

    def write(folder: Path, classes: Sequence[str], each: int, side: int = 32) -> Path:
        for number, name in enumerate(classes):
            (folder / name).mkdir(parents=True)
            for picture in range(each):
                level = 80 + 160 * picture // max(each - 1, 1)
                colour = [level if number & (1 << bit) else 30 for bit in range(3)]
                (folder / name / f"{picture:03d}.png").write_bytes(png(side, side, colour))
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub module of a few hundred weights: [N, H, W, 3] in [0, 1] to [N, 16]."""
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(1)
    pictures = tf_keras.Input((None, None, 3))
    x = tf_keras.layers.Conv2D(16, 3, 2, activation="relu")(pictures)
    model = tf_keras.Model(pictures, tf_keras.layers.GlobalAveragePooling2D()(x))
    spec = tf.TensorSpec((None, None, None, 3), tf.float32)

    @tf.function
    def call(inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        return model(inputs, training=training)

    module = tf.train.Checkpoint()
    module.__call__ = call
    module.variables = model.variables
    module.trainable_variables = model.trainable_variables
    module.regularization_losses = []
    for training in (True, False):
        call.get_concrete_function(spec, training=training)
    folder = tmp_path_factory.mktemp("tiny_backbone") / "module"
    tf.saved_model.save(module, str(folder))
    return folder


@pytest.fixture(scope="session")
def text_job() -> Path:
    """build/text, as jobs/text_prepare.py makes it: a sentence encoder and rated texts."""
    pytest.importorskip("tensorflow_text")
    subprocess.run([sys.executable, "jobs/text_prepare.py"], cwd=ROOT, check=True)
    return ROOT / "build" / "text"


@pytest.fixture(scope="session")
def tiny_audio_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub module: samples, float32 [N, any], to the strength of 16 bands of frequency."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
    def call(samples: tf.Tensor) -> tf.Tensor:
        strength = tf.abs(tf.signal.stft(samples, 128, 64, 128))[:, :, :64]
        bands = tf.reduce_mean(tf.reshape(strength, [-1, tf.shape(strength)[1], 16, 4]), [1, 3])
        return tf.ensure_shape(tf.math.log(bands + 1e-3), [None, 16])

    module = tf.train.Checkpoint()
    module.__call__ = call
    module.variables = module.trainable_variables = module.regularization_losses = []
    folder = tmp_path_factory.mktemp("tiny_audio_backbone") / "module"
    tf.saved_model.save(module, str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_text_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub module of plain TensorFlow ops: texts, string [N], to [N, 16].

    The mean over the words of a text, each of which has a row of a random table by its hash.  Its
    signature ``both`` gives that as ``pooled_output``, and the number of words beside it.
    """
    import tensorflow as tf

    table = tf.Variable(tf.random.stateless_normal((512, 16), seed=(1, 2)), name="table")

    def pooled(texts: tf.Tensor) -> tf.Tensor:
        words = tf.strings.to_hash_bucket_fast(tf.strings.split(texts), 512)
        return tf.reduce_mean(tf.gather(table, words), axis=1)

    spec = tf.TensorSpec([None], tf.string)

    @tf.function(input_signature=[spec])
    def call(texts: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(pooled(texts), [None, 16])

    @tf.function(input_signature=[spec])
    def both(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        words = tf.cast(tf.strings.split(texts).row_lengths(), tf.float32)
        return {"pooled_output": tf.ensure_shape(pooled(texts), [None, 16]), "words": words}

    module = tf.train.Checkpoint()
    module.__call__ = call
    module.variables = [table]
    module.trainable_variables = [table]
    module.regularization_losses = []
    folder = tmp_path_factory.mktemp("tiny_text_backbone") / "module"
    tf.saved_model.save(module, str(folder), signatures={"both": both})
    return folder


@pytest.fixture(scope="session")
def quickstart() -> Path:
    """build/quickstart with everything in it, the untrained backbone too; made if missing."""
    command = [sys.executable, "jobs/quickstart_prepare.py", "--with-random"]
    subprocess.run(command, cwd=ROOT, check=True)
    return ROOT / "build" / "quickstart"
