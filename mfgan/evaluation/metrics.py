"""Ranking metrics of one target a user, exact under ties.

A target is described by two numbers: how many candidates score better, ``better``, and how many
others score the same, ``ties``. Its rank is then any of ``better + 1 .. better + ties + 1`` with
the same chance, and every metric here is the expected value over those ranks, not a draw.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mfgan.errors import MfganError

CUTOFFS = (1, 5, 10, 20)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def metric_names(cutoffs: Sequence[int] = CUTOFFS) -> list[str]:
    """The names of the metrics, in the order of the columns of ``metric_values``."""
    return [f"{name}@{k}" for name in ("HR", "NDCG", "MRR") for k in cutoffs] + ["MRR"]


def check_cutoffs(cutoffs: Sequence[int]) -> tuple[int, ...]:
    """The cutoffs as a tuple.

    Raises:
        MfganError: There is none, or they are not positive and rising.
    """
    found = tuple(cutoffs)
    if not found or found[0] < 1 or any(a >= b for a, b in pairwise(found)):
        raise MfganError(f"evaluate: cutoffs must be positive and rising, got {found}")
    return found


def metric_values(better: Integers, ties: Integers, cutoffs: Sequence[int] = CUTOFFS) -> Floats:
    """The metrics of every user.

    With one relevant item HR@k is recall@k, NDCG@k is ``1 / log2(rank + 1)`` within the first k,
    MRR@k is ``1 / rank`` within the first k, and MRR has no cutoff.

    Args:
        better: ``(num_users,)`` candidates that score better than the target.
        ties: ``(num_users,)`` candidates, the target left out, that score the same.
        cutoffs: The k, rising.

    Returns:
        ``(num_users, 3 * len(cutoffs) + 1)`` float64, columns as in ``metric_names``.
    """
    width = (ties + 1).astype(np.float64)
    last = int((better + ties).max(initial=0)) + 1
    ranks = np.arange(1, last + 1, dtype=np.float64)
    gains = {"NDCG": 1.0 / np.log2(ranks + 1.0), "MRR": 1.0 / ranks}
    sums = {name: np.concatenate(([0.0], np.cumsum(gain))) for name, gain in gains.items()}

    def mean_gain(name: str, end: Integers) -> Floats:
        first = np.minimum(better, end)
        spread: Floats = (sums[name][end] - sums[name][first]) / width
        # One rank alone is read from the table itself: a difference of sums would round it.
        alone = np.where(end > better, gains[name][better], 0.0)
        return np.where(ties == 0, alone, spread)

    ends = [np.minimum(better + ties + 1, k) for k in cutoffs]
    columns = [np.maximum(end - better, 0) / width for end in ends]
    columns += [mean_gain("NDCG", end) for end in ends]
    columns += [mean_gain("MRR", end) for end in ends]
    columns.append(mean_gain("MRR", better + ties + 1))
    return np.stack(columns, axis=1)
