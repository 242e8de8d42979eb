"""How far a simulator can be trusted: real clicks against the learned user's, slice by slice."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfgan.data.displays.batch import EventBatch, EventStore
from mfgan.data.displays.dataset import DisplayDataset
from mfgan.evaluation.bootstrap import mean_intervals
from mfgan.evaluation.choice import evaluate_choice
from mfgan.training.user_model.stages import LearnedUser

# Below this share of slices inside their interval the report says so in words.
_TRUSTED = 0.8


@torch.no_grad()
def fidelity(
    user: LearnedUser, dataset: DisplayDataset, users: np.ndarray, *, seed: int = 0
) -> dict[str, Any]:
    """Compare what users clicked with what the learned user would, on the same displays.

    Real histories are followed (each display is judged in the state that the real clicks before it
    led to), so that a slice shows the model's own error and not that of a history gone astray.

    Args:
        user: The learned user.
        dataset: Prepared displays.
        users: ``(n,)`` int64 users it was not fitted to.
        seed: Of the intervals.

    Returns:
        Likelihood and calibration; click rates, real with interval against simulated, by place on
        the page where it is known, popularity and history length; and a verdict in words.
    """
    user = user.eval()
    store = EventStore(dataset)
    evaluation = evaluate_choice(store.batches(users), user, seed=seed)
    parts = [_rows(user, batch) for batch in store.batches(users)]
    probability, clicked, places, lengths = (
        np.concatenate(one) for one in zip(*parts, strict=True)
    )
    shown = dataset.counts(dataset.users("train"))[0]
    popularity = np.frexp(shown[dataset.items[places]].astype(np.float64))[1]
    slices = {
        "displays of the item in training": _slices(
            popularity, _doubling(int(popularity.max(initial=0))), probability, clicked, seed
        ),
        "clicks of the user before": _slices(
            np.minimum(lengths, 4), ["0", "1", "2", "3", "4 or more"], probability, clicked, seed
        ),
    }
    if dataset.positions is not None:
        position = dataset.positions[places].astype(np.int64)
        names = [str(place) for place in range(int(position.max()) + 1)]
        slices["place on the page"] = _slices(position, names, probability, clicked, seed)
    cells = [cell for table in slices.values() for cell in table]
    inside = sum(cell["inside"] for cell in cells) / max(len(cells), 1)
    return {
        "num_users": len(users),
        "evaluation": evaluation.to_dict(),
        "slices": slices,
        "share of slices inside": inside,
        "verdict": _verdict(inside, len(cells), evaluation.metrics["ECE"]),
    }


def _rows(user: LearnedUser, batch: EventBatch) -> tuple[np.ndarray, ...]:
    """Probability, click, row of the data set and clicks before, of each displayed row."""
    _, choice = user(batch)
    clicked = torch.zeros_like(choice.rows)
    clicked[batch.clicks[batch.clicks >= 0]] = 1
    bounds = batch.history.cu_seqlens.long()
    owner = torch.bucketize(batch.states, bounds, right=True) - 1
    before = (batch.states - bounds[owner])[batch.events]
    rows: tuple[Tensor, ...] = (choice.rows, clicked, batch.places, before)
    return tuple(one.cpu().numpy() for one in rows)


def _doubling(top: int) -> list[str]:
    bounds = [(1 << (power - 1), (1 << power) - 1) for power in range(1, top + 1)]
    return ["0", *(f"{low}-{high}" if high > low else str(low) for low, high in bounds)]


def _slices(
    group: np.ndarray, names: list[str], probability: np.ndarray, clicked: np.ndarray, seed: int
) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for number, name in enumerate(names):
        mine = group == number
        if not mine.any():
            continue
        real = clicked[mine].astype(np.float64)
        counts = np.bincount(real.astype(np.int64), minlength=2)
        low, high = mean_intervals(np.array([[0.0], [1.0]]), counts=counts, seed=seed)[0]
        simulated = float(probability[mine].mean())
        found.append(
            {
                "slice": name,
                "rows": int(mine.sum()),
                "real": float(real.mean()),
                "interval": [float(low), float(high)],
                "simulated": simulated,
                "inside": bool(low <= simulated <= high),
            }
        )
    return found


def _verdict(inside: float, count: int, ece: float) -> str:
    said = f"{inside:.0%} of {count} slices have the simulated click rate inside the real one's"
    said += f" 95 % interval; expected calibration error {ece:.3f}. "
    if inside >= _TRUSTED:
        said += "What one display does after a logged history may be believed."
    else:
        said += "What one display does is known in order more than in size."
    return said + " A policy leaves those histories: judge it in a held-out user model too."
