"""What a recommender knows of simulated users: learned models that follow their clicks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mfgan.models.user_model import UserModel
from mfgan.models.user_state import Carry
from mfgan.simulation.pool import pool_context
from mfgan.simulation.users import SimulatedUsers
from mfgan.training.user_model.stages import LearnedUser


class TrackedUser:
    """The training user models following what the users of another model see and click.

    Args:
        users: The learned users that a recommender knows; their utilities are averaged.
        block: Users whose utilities are computed at once.
    """

    def __init__(self, users: Sequence[LearnedUser], *, block: int = 256) -> None:
        self._models = [user.eval().reward for user in users]
        self._block = block

    def begin(self, users: SimulatedUsers) -> None:
        """Start from users who have clicked nothing."""
        self._carries = [
            model.encoder.begin(model.features, users.num_users) for model in self._models
        ]
        self._seen = 0

    @torch.no_grad()
    def utilities(self, users: SimulatedUsers, pool: Tensor) -> tuple[Tensor, Tensor]:
        """What the models think each item is worth to each user now.

        Returns:
            ``(num_users, n)`` utilities and ``(num_users, n, 3)`` context.
        """
        done = int(users.steps.max())
        while self._seen < done:
            clicks = users.clicked[:, self._seen]
            self._carries = [
                model.encoder.advance(model.features, carry, clicks)
                for model, carry in zip(self._models, self._carries, strict=True)
            ]
            self._seen += 1
        context = pool_context(users, pool)
        found = [
            self._of(model, carry, context, pool)
            for model, carry in zip(self._models, self._carries, strict=True)
        ]
        return torch.stack(found).mean(0), context

    def _of(self, model: UserModel, carry: Carry, context: Tensor, pool: Tensor) -> Tensor:
        found = []
        for start in range(0, len(context), self._block):
            part = context[start : start + self._block]
            owner = torch.arange(len(part)).repeat_interleave(len(pool))
            items = pool.repeat(len(part))
            states = carry.hidden[start : start + self._block]
            values = model.utilities(states, items, owner, part.flatten(0, 1))
            found.append(values.view(len(part), len(pool)))
        return torch.cat(found)
