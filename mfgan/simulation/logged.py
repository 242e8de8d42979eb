"""Off-policy estimates of a prepared log."""

from pathlib import Path
from typing import Any

import numpy as np

from mfgan.data.displays.dataset import DisplayDataset
from mfgan.errors import MfganError
from mfgan.simulation.off_policy import RewardTable, estimate


def estimate_log(
    log: Path, policy: str = "uniform", *, clip: float | None = None, seed: int = 0
) -> dict[str, Any]:
    """Off-policy estimates on a log of displays of one item with propensities.

    Args:
        log: Prepared displays.
        policy: ``uniform``, or the path of another prepared log of the same items, whose shares of
            items at each place are the policy's probabilities.
        clip: Largest weight.
        seed: Of the bootstrap and of the folds of the reward's prediction.

    Raises:
        MfganError: The log has no propensities or displays of several items, or the policy shows
            none of its items.
    """
    data = DisplayDataset.open(log)
    if data.propensities is None or len(data.items) != data.num_events:
        raise MfganError(f"{log}: must have propensities and one item a display")
    items = data.items.astype(np.int64)
    positions = _positions(data)
    rewards = (data.clicks >= 0).astype(np.float64)
    shares = _shares(data, policy, int(positions.max()) + 1)
    table = RewardTable(items, positions, rewards, data.num_items, seed=seed)
    found = estimate(
        rewards,
        data.propensities.astype(np.float64),
        shares[items, positions],
        predicted=table.logged(),
        predicted_policy=table.expected(shares),
        clip=np.inf if clip is None else clip,
        seed=seed,
    )
    return {
        "log": str(log),
        "policy": policy,
        "rounds": data.num_events,
        "logged": float(rewards.mean()),
        "estimates": [one.to_dict() for one in found],
    }


def _positions(data: DisplayDataset) -> np.ndarray:
    if data.positions is None:
        return np.zeros(len(data.items), np.int64)
    return data.positions.astype(np.int64)


def _shares(data: DisplayDataset, policy: str, places: int) -> np.ndarray:
    """``(num_items + 1, places)`` probability of each item at each place."""
    if policy == "uniform":
        table = np.full((data.num_items + 1, places), 1 / data.num_items)
        table[0] = 0
        return table
    other = DisplayDataset.open(policy)
    mine = np.array([data.item_ids.find(name) or 0 for name in other.item_ids], np.int64)
    positions = np.minimum(_positions(other), places - 1)
    counts = np.zeros((data.num_items + 1, places))
    np.add.at(counts, (mine[other.items], positions), 1.0)
    counts[0] = 0
    shares: np.ndarray = counts / np.maximum(counts.sum(0), 1)
    return shares
