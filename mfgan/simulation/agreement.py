"""Whether two user models agree on what there is to plan, before a policy is trained."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfgan.errors import MfganError
from mfgan.simulation.cascading import PolicySettings
from mfgan.simulation.pool import item_pool
from mfgan.simulation.recommenders import GreedyRecommender
from mfgan.simulation.rollout import roll_out
from mfgan.simulation.session import SessionRule, check_pool
from mfgan.simulation.users import RewardKind, SimulatedUsers
from mfgan.training.user_model.run import UserModelRun, fitted_users
from mfgan.training.user_model.stages import LearnedUser


class _FirstItem:
    """One item alone to each user at first, then greed."""

    name = "first item"

    def __init__(self, known: Sequence[LearnedUser], pool: Tensor, slate: int, each: int) -> None:
        self._greedy = GreedyRecommender(known, pool, slate)
        self._first = pool.repeat_interleave(each)[:, None].repeat(1, slate)

    def begin(self, users: SimulatedUsers) -> None:
        self._greedy.begin(users)

    def choose(self, users: SimulatedUsers, step: int) -> Tensor:
        return self._first if step == 0 else self._greedy.choose(users, step)


@torch.no_grad()
def agreement(
    known: Sequence[LearnedUser],
    judge: LearnedUser,
    pool: Tensor,
    *,
    slate: int = 3,
    session: SessionRule,
    reward: RewardKind = "gain",
    each: int = 6,
    seed: int = 0,
) -> dict[str, Any]:
    """How alike two user models value what a first item earns at once, and what it leads to.

    Every item of the pool is shown alone first; from then on the policy that is greedy in ``known``
    serves. A planner gains by what comes later, so where the models do not agree on that, what it
    learns in one is worth nothing in the other, however well both predict the next click.

    Args:
        known: The training user models; sessions of the first of them are one side.
        judge: The user model of other users; its sessions are the other side.
        pool: ``(n,)`` int64 items that may be shown.
        slate: k of the displays after the first.
        session: How long sessions last.
        reward: As in ``SimulatedUsers``.
        each: Sessions an item and model.
        seed: Of the users' draws.

    Returns:
        Pearson's r over items, between the models, of the mean reward of the ``first`` display, of
        the ``later`` ones together and of the ``whole`` session; and the number of ``items``.

    Raises:
        MfganError: A session has one display alone, or the pool fewer than three items or than
            the session shows.
    """
    if session.limit < 2 or len(pool) < 3:
        raise MfganError(
            "agreement: must have sessions of 2 displays and 3 items or more, got"
            f" {session.limit} and {len(pool)}"
        )
    check_pool(len(pool), slate, session)
    sides = []
    for user in (known[0], judge):
        found = roll_out(
            _FirstItem(known, pool, slate, each),
            user,
            num_users=len(pool) * each,
            session=session,
            reward=reward,
            seed=seed,
        )
        means = found.rewards.reshape(len(pool), each, -1).mean(1)
        sides.append((means[:, 0], means[:, 1:].sum(1), means.sum(1)))
    names = ("first", "later", "whole")
    values = {
        name: _correlation(one, other) for name, one, other in zip(names, *sides, strict=True)
    }
    return {"items": len(pool), **values}


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's r; 0 where one of the two is constant and so says nothing."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def agree(
    runs: Sequence[UserModelRun], judge: UserModelRun, settings: PolicySettings
) -> dict[str, Any]:
    """`agreement` of user models on disk, with a policy's pool, display size and session.

    Args:
        runs: The training user models.
        judge: One of other users.
        settings: Of the policy that would be trained.

    Raises:
        MfganError: The user models are of different displays.
    """
    data = runs[0].dataset
    if any(one.dataset.fingerprint != data.fingerprint for one in (*runs, judge)):
        raise MfganError("policy: all user models must be of the same displays")
    shown = data.counts(fitted_users(data, runs[0].settings))[0]
    return agreement(
        [one.user() for one in runs],
        judge.user(),
        item_pool(shown, settings.pool),
        slate=settings.slate,
        session=SessionRule.parse(settings.session),
        reward=settings.reward,  # type: ignore[arg-type]
        seed=settings.seed,
    )
