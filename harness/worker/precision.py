"""What a run computes in: refused where the machine has it not, said, and counted as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras

from harness.distribute.units import check_kind, cpu_flags, no_gain
from harness.errors import EnvironmentNotAble, SpecError
from harness.model.arithmetic import Counted, collected, count, tried
from harness.model.norm import SyncBatchNorm
from harness.runs.paths import RunPaths
from harness.runs.record import read_record, update_record
from harness.spec.models_training import Training

_PATH = "training.precision"
_NO_KERNEL = re.compile(r" on XLA_\w+: (\w+) \(")


def check_precision(precision: str, say: Callable[[str], None] | None) -> None:
    """Holds a precision against the devices that compute, before anything is trained.

    Args:
        say: hears of one that gains nothing; None: nobody does.

    Raises:
        EnvironmentNotAble: they cannot compute in it.
    """
    if precision == "float32":
        return
    gpus = tf.config.get_visible_devices("GPU")
    check_kind(precision, "GPU" if gpus else "CPU")
    why = no_gain(precision, cpu_flags(), [_capability(gpu) for gpu in gpus])
    if not tried(precision).low:
        raise EnvironmentNotAble(
            f"TensorFlow cannot compute in {precision} on this machine",
            got=why or f"TensorFlow {tf.__version__}, which left a convolution in float32",
            allowed="float32",
            action="set training.precision: float32, or ask for another kind of machine",
            path=_PATH,
        )
    if why is not None and say is not None:
        say(f"{precision} gains nothing here: {why}")


def check_compiled(
    training: Training,
    model: tf_keras.Model,
    replicas: int,
    say: Callable[[str], None] | None = None,
) -> None:
    """Holds ``training.jit_compile`` against what a replica cannot do by itself.

    Args:
        say: hears of a machine on which it is no gain.

    Raises:
        SpecError: a layer needs the other replicas in the midst of what XLA compiles.
    """
    if training.jit_compile and say is not None and not tf.config.get_visible_devices("GPU"):
        say("training.jit_compile on the CPU: convolutions are several times slower with it there")
    norms = [layer.name for layer in model.submodules if isinstance(layer, SyncBatchNorm)]
    if training.jit_compile and replicas > 1 and norms:
        raise SpecError(
            "XLA cannot compile a batch normalisation that several replicas share",
            got=f"{', '.join(norms[:3])} with {replicas} replicas",
            allowed="one replica, or no batch normalisation in what is trained",
            action="set training.jit_compile: false",
            path="training.jit_compile",
        )


@contextmanager
def _compiling() -> Iterator[None]:
    """Says in words that XLA cannot compile the model, which shows at its first call."""
    try:
        yield
    except tf.errors.OpError as error:
        text = str(error)
        memory = isinstance(error, tf.errors.ResourceExhaustedError)
        if memory or ("XLA" not in text and "tf2xla" not in text):
            raise
        found = _NO_KERNEL.search(text)
        lines = [line.strip() for line in text.splitlines() if "compil" in line]
        raise SpecError(
            "XLA cannot compile the forward and backward pass of this model",
            got=f"the operation {found[1]}" if found else (lines or [text])[0][:300],
            allowed="models whose operations XLA has",
            action="set training.jit_compile: false",
            path="training.jit_compile",
        ) from error


def _capability(gpu: Any) -> tuple[int, int] | None:
    found = tf.config.experimental.get_device_details(gpu).get("compute_capability")
    return None if found is None else (int(found[0]), int(found[1]))


class Arithmetic:
    """Looks at the first call of each phase, and records in ``run.json`` what it computes in.

    Args:
        paths: the run; None on a rank that writes nothing.
        training: of the spec.
        say: tells the user.
    """

    def __init__(
        self, paths: RunPaths | None, training: Training, say: Callable[[str], None]
    ) -> None:
        self._paths = paths
        self._training = training
        self._say = say
        self._seen: set[str] = set()
        if paths is not None and "precision" not in read_record(paths):
            update_record(paths, precision={"asked": training.precision})

    @contextmanager
    def watched(self, phase: str) -> Iterator[None]:
        """Put around every call that steps.

        Raises:
            SpecError: XLA cannot compile the model.
        """
        new = phase not in self._seen
        self._seen.add(phase)
        if new and self._training.jit_compile:
            with _compiling():
                yield
        elif new and self._paths is not None and self._training.precision != "float32":
            with collected() as graphs:
                yield
            self._record(self._paths, phase, graphs)
        else:
            yield

    def _record(self, paths: RunPaths, phase: str, graphs: list[Any]) -> None:
        found, asked = count(graphs), self._training.precision
        before = read_record(paths)["precision"].get("phases", {})
        phases = {**before, phase: {"ops_low": found.low, "ops_all": found.all}}
        low, every = (sum(each[of] for each in phases.values()) for of in ("ops_low", "ops_all"))
        share = round(Counted(low, every).share, 4)
        whole = {"asked": asked, "share_low": share, "ops_low": low, "ops_all": every}
        update_record(paths, precision={**whole, "phases": phases})
        self._say(
            f"{asked}: of {found.all} convolutions and matrix products in a step of phase {phase}, "
            f"{found.low} are computed in 16 bits"
        )
