"""Bootstrap intervals of means over users, seeded and without a loop over users."""

import numpy as np
import numpy.typing as npt

_RESAMPLES = 1000
_BLOCK = 1 << 22  # counts held at once, so that a million users do not need gigabytes
_BINOMIAL_COST = 20  # of one draw of a multinomial's count, in draws of a user


def mean_intervals(
    values: npt.NDArray[np.float64],
    *,
    counts: npt.NDArray[np.int64] | None = None,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Percentile bootstrap intervals of the column means.

    Users with equal rows are one row with a count: a resample is then a multinomial draw of how
    often each row occurs.

    Args:
        values: ``(num_rows, num_metrics)`` float64.
        counts: ``(num_rows,)`` users with each row; one each where it is not given.
        level: The share of resampled means inside the interval.
        resamples: How many resamples.
        seed: The same seed gives the same intervals.

    Returns:
        ``(num_metrics, 2)`` float64, lower and upper bound; NaN where there is no user.
    """
    counts = np.ones(len(values), np.int64) if counts is None else counts
    total = int(counts.sum())
    if total == 0:
        return np.full((values.shape[1], 2), np.nan)
    rng = np.random.default_rng([seed, len("bootstrap")])
    step = max(1, _BLOCK // len(values))
    means = []
    for start in range(0, resamples, step):
        draws = _resamples(rng, counts, min(step, resamples - start))
        means.append(draws @ values / total)
    tail = (1.0 - level) / 2.0
    bounds: npt.NDArray[np.float64] = np.quantile(np.concatenate(means), [tail, 1.0 - tail], axis=0)
    return bounds.T


def _resamples(
    rng: np.random.Generator, counts: npt.NDArray[np.int64], number: int
) -> npt.NDArray[np.int64]:
    total = int(counts.sum())
    if total > _BINOMIAL_COST * len(counts):
        return rng.multinomial(total, counts / total, size=number)
    owner = np.repeat(np.arange(len(counts)), counts)
    drawn = [owner[rng.integers(0, total, total, np.int32)] for _ in range(number)]
    return np.stack([np.bincount(rows, minlength=len(counts)) for rows in drawn])
