"""Whether all replicas have the same weights: looked at, not assumed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from harness.distribute.base import Distribution
from harness.errors import TrainingError

_SHOWN = 5


def check_equal(
    distribution: Distribution, variables: Mapping[str, tf.Variable], when: str
) -> None:
    """Holds that every replica has the same bits in ``variables``; a collective of all ranks.

    Costs a hash of the weights and, with several ranks, one small sum.

    Args:
        when: for the error, such as ``at the start``.

    Raises:
        TrainingError: they differ; names ranks or devices, and variables.
    """
    if distribution.replicas == 1:
        return
    digests = {}
    for name, variable in variables.items():
        copies = [_digest(copy) for copy in distribution.copies(variable)]
        if len(set(copies)) > 1:
            odd = ", ".join(str(at) for at in _odd(copies))
            raise _differ(when, f"{name} on device {odd} of {len(copies)} of this process")
        digests[name] = copies[0]
    whole = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
    wholes = distribution.gather(whole)
    if len(set(wholes)) == 1:
        return
    of_ranks = distribution.gather(digests)
    everywhere = dict.fromkeys(name for each in of_ranks for name in each)
    names = [name for name in everywhere if len({each.get(name) for each in of_ranks}) > 1]
    ranks = ", ".join(map(str, _odd(wholes)[:_SHOWN]))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise _differ(when, f"rank {ranks} of {len(wholes)} in {', '.join(names[:_SHOWN])}{more}")


def _digest(values: np.ndarray) -> str:
    head = f"{values.dtype}{values.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def _odd(digests: list[str]) -> list[int]:
    """Who differs from most of the others; of equal camps, from the first's."""
    counted = Counter(digests)
    most = max(counted, key=lambda digest: (counted[digest], digest == digests[0]))
    return [at for at, digest in enumerate(digests) if digest != most]


def _differ(when: str, got: str) -> TrainingError:
    return TrainingError(
        f"the replicas do not have the same weights {when}",
        got=got,
        allowed="the same bits on all of them",
        action="a plug-in that draws numbers of its own or works by the time or the rank does "
        "this; else suspect the named rank's machine, and go on from the last checkpoint",
    )
