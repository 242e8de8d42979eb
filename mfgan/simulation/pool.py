"""The items that may be shown, and what a session says of them so far."""

import numpy as np
import torch
from torch import Tensor

from mfgan.simulation.users import SimulatedUsers


def item_pool(shown: np.ndarray, limit: int = 0) -> Tensor:
    """The items that a recommender may show: those that fitted users were shown.

    Args:
        shown: ``(num_items + 1,)`` displays of each item among them.
        limit: Keep only so many, the most displayed first; 0 keeps all.

    Returns:
        ``(n,)`` int64 item_idx, ascending.
    """
    order = np.argsort(-shown[1:], kind="stable") + 1
    known = order[shown[order] > 0]
    return torch.from_numpy(np.sort(known[:limit] if limit else known))


def top_items(users: SimulatedUsers, scores: Tensor, pool: Tensor, count: int) -> Tensor:
    """``(num_users, count)`` the items of highest score among those not shown in the session yet.

    No recommender shows an item twice in a session: logs hold next to nothing on what users do
    then, and a policy would live off what the user model makes up about it.

    Args:
        users: Who was shown what.
        scores: ``(num_users, n)``; of equals the first in the pool wins.
        pool: ``(n,)`` int64 item_idx.
        count: Items to take.
    """
    scores = scores.masked_fill(shown_already(users, pool), -torch.inf)
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return pool[order]


def shown_already(users: SimulatedUsers, pool: Tensor) -> Tensor:
    """``(num_users, n)`` bool: the item was shown in this session."""
    done = max(int(users.steps.max()), 1)
    shown = users.shown[:, :done].flatten(1)
    table = torch.zeros(users.num_users, users.num_items + 1, dtype=torch.bool)
    return table.scatter_(1, shown, True)[:, pool]


def pool_context(users: SimulatedUsers, pool: Tensor) -> Tensor:
    """``(num_users, n, 3)`` of ``SimulatedUsers.context`` for a whole pool, by counting."""
    width = users.num_items + 1
    done = max(int(users.steps.max()), 1)
    clicked = users.clicked[:, :done]
    shown = users.shown[:, :done].flatten(1)
    table = torch.zeros(users.num_users, width, 3)
    table[..., 0].scatter_add_(1, clicked, torch.ones(clicked.shape))
    table[..., 2].scatter_add_(1, shown, torch.ones(shown.shape))
    table[..., 1].scatter_(1, users.last_clicks(1), 1.0)
    context = table[:, pool]
    context[..., 0].log1p_()
    context[..., 2].log1p_()
    return context
