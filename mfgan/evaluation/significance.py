"""Is one recommender better than another, or was it luck? Paired over users, corrected for many.

The mean difference over users comes with a bootstrap interval, and with the p-value of a
randomisation test: if the two were the same, the sign of each user's difference would be a coin's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mfgan.errors import MfganError
from mfgan.evaluation.bootstrap import mean_intervals
from mfgan.evaluation.metrics import metric_names, metric_values
from mfgan.evaluation.result import Evaluation

_FLIPS = 10_000
_BLOCK = 1 << 23  # signs held at once


@dataclass(frozen=True)
class Comparison:
    """One metric of a recommender against another's, over the same users.

    Args:
        against: The name of the other one.
        metric: The metric.
        difference: Ours less theirs, mean over users.
        interval: Bootstrap 95 % interval of that mean.
        p_value: Two-sided, of the randomisation test.
        p_holm: The same after Holm's correction over all comparisons made together.
    """

    against: str
    metric: str
    difference: float
    interval: tuple[float, float]
    p_value: float
    p_holm: float

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def compare(
    ours: Evaluation,
    others: Mapping[str, Evaluation],
    *,
    metrics: Sequence[str] = ("HR@10", "NDCG@10", "MRR"),
    seed: int = 0,
) -> list[Comparison]:
    """Compare one evaluation with others, user by user.

    Args:
        ours: The evaluation in question.
        others: Evaluations of the same users, split and protocol, by name.
        metrics: Names without the mark of a sampled protocol.
        seed: Of the bootstrap and the test.

    Returns:
        One comparison a pair of other and metric, in that order.

    Raises:
        MfganError: A metric is unknown, or the evaluations are of different users or protocols.
    """
    names = metric_names(ours.cutoffs)
    if unknown := [name for name in metrics if name not in names]:
        raise MfganError(f"compare: metrics must be of {', '.join(names)}, got {unknown[0]!r}")
    columns = [names.index(name) for name in metrics]
    mine = _values(ours)[:, columns]
    found = []
    for name, other in others.items():
        _check_pair(ours, other, name)
        gaps = mine - _values(other)[:, columns]
        rows, counts = np.unique(gaps, axis=0, return_counts=True)
        bounds = mean_intervals(rows, counts=counts.astype(np.int64), seed=seed)
        chances = randomisation_test(gaps, seed=seed)
        found += [
            (name, metric + ours.suffix, float(gap), (float(low), float(high)), float(p))
            for metric, gap, (low, high), p in zip(
                metrics, gaps.mean(axis=0), bounds, chances, strict=True
            )
        ]
    corrected = holm([row[-1] for row in found])
    return [Comparison(*row, p_holm=p) for row, p in zip(found, corrected, strict=True)]


def randomisation_test(
    differences: npt.NDArray[np.float64], *, flips: int = _FLIPS, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Two-sided p-values of the hypothesis that differences are symmetric about 0.

    Args:
        differences: ``(num_users, num_metrics)`` float64, paired.
        flips: Random assignments of signs; the smallest p-value there is is ``1 / (flips + 1)``.
        seed: The same seed gives the same p-values.

    Returns:
        ``(num_metrics,)`` float64, ``(1 + as extreme ones) / (1 + flips)``.
    """
    # Users without a difference change no sum; in practice that is most of them.
    moving = differences[np.any(differences != 0.0, axis=1)]
    if not len(moving):
        return np.ones(differences.shape[1])
    rng = np.random.default_rng([seed, len("randomisation")])
    # Signs +1 and -1 give 2 * (sum where +1) - (sum of all).
    total = moving.sum(axis=0)
    limit = np.abs(total) - 1e-12 * np.abs(moving).sum(axis=0)
    extreme = np.zeros(differences.shape[1], np.int64)
    step = max(1, _BLOCK // len(moving))
    for start in range(0, flips, step):
        rows = min(step, flips - start)
        packed = rng.integers(0, 256, (rows, (len(moving) + 7) // 8), np.uint8)
        signs = np.unpackbits(packed, axis=1, count=len(moving))
        sums = 2.0 * (signs.astype(np.float64) @ moving) - total
        extreme += (np.abs(sums) >= limit).sum(axis=0)
    chances: npt.NDArray[np.float64] = (1 + extreme) / (1 + flips)
    return chances


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the family-wise error stays below the level.

    Args:
        p_values: Of all tests made together.

    Returns:
        The corrected p-values in the same order, at most 1.
    """
    corrected = [0.0] * len(p_values)
    worst = 0.0
    for place, test in enumerate(sorted(range(len(p_values)), key=lambda test: p_values[test])):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[test]))
        corrected[test] = worst
    return corrected


def _values(evaluation: Evaluation) -> npt.NDArray[np.float64]:
    return metric_values(evaluation.better, evaluation.ties, evaluation.cutoffs)


def _check_pair(ours: Evaluation, other: Evaluation, name: str) -> None:
    for rule in ("split", "protocol", "cutoffs"):
        mine, theirs = getattr(ours, rule), getattr(other, rule)
        if mine != theirs:
            raise MfganError(f"compare: {name} must have {rule} {mine}, got {theirs}")
    for rule in ("users", "targets"):
        if not np.array_equal(getattr(ours, rule), getattr(other, rule)):
            raise MfganError(f"compare: {name} must be of the same {rule}, got others")
    if ours.protocol != "full" and ours.seed != other.seed:
        raise MfganError(f"compare: {name} must have drawn by seed {ours.seed}, got {other.seed}")
