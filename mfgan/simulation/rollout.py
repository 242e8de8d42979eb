"""What a recommender earns among simulated users, with intervals."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from mfgan.evaluation.bootstrap import mean_intervals
from mfgan.simulation.recommenders import Recommender
from mfgan.simulation.session import SessionRule
from mfgan.simulation.users import RewardKind, SimulatedUsers
from mfgan.training.user_model.stages import LearnedUser


@dataclass(frozen=True)
class Rollout:
    """Sessions of many users under one recommender.

    Args:
        name: The recommender.
        rewards: ``(num_users, limit)`` float64, 0 after a session's end.
        clicks: ``(num_users, limit)`` bool.
        active: ``(num_users, limit)`` bool, whether the session was still on.
        seed: Of the intervals.
    """

    name: str
    rewards: np.ndarray
    clicks: np.ndarray
    active: np.ndarray
    seed: int = 0

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Mean cumulative reward a session, and clicks a display."""
        return {
            "reward": float(self.rewards.sum(1).mean()),
            "click rate": float(self.clicks.sum() / self.active.sum()),
        }

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Bootstrap 95 % intervals over users."""
        per_user = np.stack(
            [self.rewards.sum(1), self.clicks.sum(1) / self.active.sum(1)], axis=1
        ).astype(np.float64)
        bounds = mean_intervals(per_user, seed=self.seed)
        return {
            name: (float(low), float(high))
            for name, (low, high) in zip(self.metrics, bounds, strict=True)
        }

    @cached_property
    def by_step(self) -> list[float]:
        """Mean reward of each display of a session: how a recommender gets to know a user."""
        counts = np.maximum(self.active.sum(0), 1)
        return [float(value) for value in self.rewards.sum(0) / counts]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "num_users": len(self.rewards),
            "metrics": self.metrics,
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "reward by step": self.by_step,
        }


@torch.no_grad()
def roll_out(
    recommender: Recommender,
    user: LearnedUser,
    *,
    num_users: int,
    session: SessionRule,
    reward: RewardKind = "utility",
    seed: int = 0,
) -> Rollout:
    """Let a recommender serve simulated users, one session each.

    Args:
        recommender: What chooses the displays.
        user: Who chooses among them.
        num_users: Sessions.
        session: How long they last.
        reward: ``utility`` or ``click``.
        seed: Of the users' draws; the same for all recommenders that are compared.
    """
    users = SimulatedUsers(user, num_users, session=session, reward=reward, seed=seed)
    recommender.begin(users)
    shape = (num_users, session.limit)
    rewards, clicks = np.zeros(shape), np.zeros(shape, np.bool_)
    active = np.zeros(shape, np.bool_)
    here = torch.ones(num_users, dtype=torch.bool)
    for step in range(session.limit):
        result = users.step(recommender.choose(users, step))
        active[:, step] = here.cpu().numpy()
        rewards[:, step] = torch.where(here, result.rewards, 0.0).cpu().numpy()
        clicks[:, step] = (here & (result.clicks > 0)).cpu().numpy()
        here = here & ~result.done
        if not bool(here.any()):
            break
    return Rollout(recommender.name, rewards, clicks, active, seed)
