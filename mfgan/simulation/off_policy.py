"""What a policy would have earned, estimated from a log of another policy with propensities."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mfgan.errors import MfganError

_RESAMPLES = 2000
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Estimate:
    """An off-policy estimate of the mean reward a round.

    Args:
        name: ``IPS``, ``SNIPS`` or ``DR``.
        value: The estimate.
        interval: Percentile bootstrap 95 % over rounds.
    """

    name: str
    value: float
    interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"estimator": self.name, "value": self.value, "interval": list(self.interval)}


def estimate(
    rewards: np.ndarray,
    propensities: np.ndarray,
    probabilities: np.ndarray,
    *,
    predicted: np.ndarray | None = None,
    predicted_policy: np.ndarray | None = None,
    clip: float = np.inf,
    seed: int = 0,
) -> list[Estimate]:
    """Inverse propensity scoring, its self-normalised form, and the doubly robust estimator.

    IPS: ``mean(w r)``; SNIPS: ``Σ w r / Σ w`` (Swaminathan and Joachims, NeurIPS 2015); DR:
    ``mean(q(π) + w (r - q(a)))`` (Dudík et al., ICML 2011), with ``w = min(π(a) / p(a), clip)``.

    Args:
        rewards: ``(n,)`` of the logged rounds.
        propensities: ``(n,)`` probability with which the log's policy took the logged action.
        probabilities: ``(n,)`` probability with which the policy in question takes it.
        predicted: ``(n,)`` predicted reward of the logged action, for DR.
        predicted_policy: ``(n,)`` predicted reward of the policy in question, for DR.
        clip: Largest weight; a finite one trades bias for variance.
        seed: Of the bootstrap.

    Returns:
        IPS, SNIPS and, with predictions, DR.

    Raises:
        MfganError: Lengths differ, there is no round, a propensity is not within (0, 1], or the
            policy in question takes none of the logged actions.
    """
    columns = {"propensities": propensities, "probabilities": probabilities}
    if (predicted is None) != (predicted_policy is None):
        raise MfganError("off-policy: predicted and predicted_policy go together, got one")
    if predicted is not None and predicted_policy is not None:
        columns |= {"predicted": predicted, "predicted_policy": predicted_policy}
    for name, column in columns.items():
        if len(column) != len(rewards):
            raise MfganError(
                f"off-policy: {name} must have a value a round, {len(rewards)}, got {len(column)}"
            )
    if len(rewards) == 0:
        raise MfganError("off-policy: there must be rounds, got none")
    inside = (propensities > 0) & (propensities <= 1)
    if not inside.all():
        wrong = propensities[~inside][0]
        raise MfganError(f"off-policy: propensities must be within (0, 1], got {wrong}")
    if not (probabilities > 0).any():
        raise MfganError(
            "off-policy: the policy must take the logged action of a round or more, got none of"
            f" {len(rewards):,} (does it know the items of the log?)"
        )
    if clip <= 0:
        raise MfganError(f"off-policy: clip must be above 0, got {clip}")
    weights = np.minimum(probabilities / propensities, clip).astype(np.float64)
    parts = [weights * rewards, weights]
    if predicted is not None and predicted_policy is not None:
        parts.append(predicted_policy + weights * (rewards - predicted))
    table = np.stack(parts, axis=1).astype(np.float64)
    means = _resampled_means(table, seed)
    found = [
        _estimate("IPS", table[:, 0].mean(), means[:, 0]),
        _estimate("SNIPS", _ratio(*table[:, :2].mean(0)), _ratio(means[:, 0], means[:, 1])),
    ]
    if len(parts) == 3:
        found.append(_estimate("DR", table[:, 2].mean(), means[:, 2]))
    return found


def _estimate(name: str, value: Any, resampled: Any) -> Estimate:
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Estimate(name, float(value), (float(low), float(high)))


def _ratio(gain: Any, weight: Any) -> Any:
    """NaN where a resample has no round that the policy in question would take."""
    return np.where(weight > 0, gain / np.where(weight > 0, weight, 1), np.nan)


def _resampled_means(table: np.ndarray, seed: int) -> np.ndarray:
    """``(resamples, columns)`` means of the table under resampling of its rows."""
    rng = np.random.default_rng([seed, len("off-policy")])
    rows = len(table)
    step = max(1, _BLOCK // rows)
    means = []
    for start in range(0, _RESAMPLES, step):
        count = min(step, _RESAMPLES - start)
        draws = rng.multinomial(rows, np.full(rows, 1 / rows), size=count)
        means.append(draws @ table / rows)
    return np.concatenate(means)


class RewardTable:
    """Predicted click of an item at a position: clicks + prior over displays + 1, cross-fitted.

    A round's own fold is left out of its prediction, without which the doubly robust estimator
    would correct a prediction by the very reward it was made from.

    Args:
        items: ``(n,)`` int64 item of each round.
        positions: ``(n,)`` int64 place of each round, zeros where there is none.
        rewards: ``(n,)`` 0 or 1.
        num_items: Items of the catalogue; items are within 0..num_items.
        folds: Of the cross-fitting.
        seed: Of the folds.
    """

    def __init__(
        self,
        items: np.ndarray,
        positions: np.ndarray,
        rewards: np.ndarray,
        num_items: int,
        *,
        folds: int = 3,
        seed: int = 0,
    ) -> None:
        width = int(positions.max(initial=0)) + 1
        self.cells = items * width + positions
        self._width, self._items = width, num_items + 1
        rng = np.random.default_rng([seed, len("folds")])
        self.fold = rng.permutation(len(items)) % folds
        self.positions = positions
        size = self._items * width
        self._tables = []
        for fold in range(folds):
            others = self.fold != fold
            cells = self.cells[others]
            prior = float(rewards[others].mean()) if others.any() else 0.0
            gained = np.bincount(cells, rewards[others], minlength=size) + prior
            self._tables.append(gained / (np.bincount(cells, minlength=size) + 1))

    def logged(self) -> np.ndarray:
        """``(n,)`` prediction for the logged action."""
        tables = np.stack(self._tables)
        return np.asarray(tables[self.fold, self.cells])

    def expected(self, policy: np.ndarray) -> np.ndarray:
        """``(n,)`` prediction for a policy.

        Args:
            policy: ``(num_items + 1,)`` or ``(num_items + 1, positions)`` probabilities of items,
                for each position.
        """
        shares = policy if policy.ndim == 2 else policy[:, None]
        tables = np.stack(self._tables).reshape(-1, self._items, self._width)
        means = (tables * shares[None]).sum(1)
        return np.asarray(means[self.fold, self.positions])
