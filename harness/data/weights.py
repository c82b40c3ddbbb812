"""What stands for a missing weight of an example.  Free of TensorFlow."""

from __future__ import annotations

import math
import statistics
from array import array
from collections.abc import Iterable, Sequence

from harness.errors import DataError


def typical(weights: Iterable[float], policy: str) -> float | None:
    """Mean or median of the weights that are there, which are not nan; None where none is.

    Args:
        policy: ``impute_mean`` or ``impute_median``, as ``data.missing.field`` has them.
    """
    given = [weight for weight in weights if not math.isnan(weight)]
    if not given:
        return None
    return statistics.median(given) if policy == "impute_median" else math.fsum(given) / len(given)


def impute(
    weights: array[float],
    sure: Sequence[bool],
    policy: str,
    fill: float | None,
    *,
    of: str,
    field: str,
) -> tuple[float | None, int]:
    """Fills in the weights that are nan, in place.

    Args:
        sure: of which examples the weight counts for what is typical.
        policy: see :func:`typical`.
        fill: what stands for a missing one; None is what is typical.
        of: what messages call the data.
        field: which field names the weights.

    Returns:
        What stands for a missing one (None where ``policy`` imputes nothing), and how many there
        were.

    Raises:
        DataError: some are missing and none is there to go by.
    """
    if not policy.startswith("impute"):
        return None, 0
    if fill is None:
        fill = typical((w for w, is_sure in zip(weights, sure, strict=True) if is_sure), policy)
    lacking = [at for at, weight in enumerate(weights) if math.isnan(weight)]
    if lacking and fill is None:
        raise DataError(
            f"{of} has no weight in any record",
            got=f"missing values of {field}",
            allowed="weights, of which some may be missing",
            action=f"check {field}",
        )
    for at in lacking:
        assert fill is not None, "held above"
        weights[at] = fill
    return fill, len(lacking)
