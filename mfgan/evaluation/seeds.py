"""Means and intervals over seeds."""

from collections.abc import Sequence

import numpy as np

# Student's t, two-sided 95 %, for 1 to 30 degrees of freedom.
# fmt: off
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on


def over_seeds(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean and 95 % interval (Student's t) of a figure over seeds.

    Args:
        values: One a seed. Of a single one the interval is undefined: NaN.

    Example:
        >>> mean, (low, high) = over_seeds([1.0, 2.0, 3.0])
        >>> round(mean, 3), round(low, 3), round(high, 3)
        (2.0, -0.484, 4.484)
    """
    table = np.asarray(values, np.float64)
    mean = float(table.mean())
    if len(table) < 2:
        return mean, (float("nan"), float("nan"))
    factor = _T[min(len(table) - 2, len(_T) - 1)]
    half = factor * float(table.std(ddof=1)) / len(table) ** 0.5
    return mean, (mean - half, mean + half)
