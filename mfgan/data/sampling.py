"""Negative items: ones that a user has not met, drawn in Numba.

Every draw is a function of (seed, epoch, row) through a counter-based generator, so the result
depends neither on the order of the work nor on the number of threads.
"""

from typing import Literal

import numpy as np

from mfgan.data.dataset import PreparedDataset, Split
from mfgan.data.draw_negatives import alias_table, draw_distinct, draw_unmet
from mfgan.data.parallel import over_parts, row_parts
from mfgan.errors import MfganError

_TRAINING, _EVALUATION = 102, 103  # tell these uses of a seed from every other one


class NegativeSampler:
    """Negatives for training; only the training part of a user's history counts as met.

    What a user meets later is a possible negative: to avoid it would tell a model of it.

    Args:
        dataset: The prepared data set.
        kind: ``"uniform"``; ``"popularity"``: in proportion to an item's training interactions to
            the power ``exponent``; ``"mixed"``: a share of the draws each.
        exponent: Power of the popularity.
        popular_share: ``"mixed"``: share of the draws by popularity.
        seed: Seed of the draws.

    Raises:
        MfganError: The kind is unknown, or a number is out of range.

    Example:
        >>> sampler = NegativeSampler(dataset, seed=0)
        >>> sampler.sample(batch.users.numpy(), 4, epoch=0).shape
        (128, 4)
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        *,
        kind: Literal["uniform", "popularity", "mixed"] = "uniform",
        exponent: float = 1.0,
        popular_share: float = 0.5,
        seed: int,
    ) -> None:
        if kind not in ("uniform", "popularity", "mixed"):
            raise MfganError(
                f"NegativeSampler: kind must be uniform, popularity or mixed, got {kind!r}"
            )
        if not 0 <= popular_share <= 1 or exponent < 0:
            raise MfganError(
                "NegativeSampler: popular_share must be within 0..1 and exponent not negative, got"
                f" {popular_share} and {exponent}"
            )
        self._dataset, self._seed = dataset, seed
        share = {"uniform": 0.0, "popularity": 1.0, "mixed": popular_share}[kind]
        self._probabilities = _probabilities(dataset, share, exponent)
        is_uniform = share == 0
        self._table = _no_table() if is_uniform else alias_table(self._probabilities[1:])

    @property
    def probabilities(self) -> np.ndarray:
        """``(num_items + 1,)`` float64: how likely each item is drawn, what is met aside."""
        return self._probabilities

    def sample(
        self, users: np.ndarray, count: int, *, epoch: int, first_row: int = 0
    ) -> np.ndarray:
        """Draw negatives for rows of users; rows of one user in a row are cheapest.

        Args:
            users: ``(n,)`` user_idx.
            count: Negatives a row; they may repeat.
            epoch: Part of the draws' identity.
            first_row: The number of the first row, part of the draws' identity too: rows 100 to 199
                give the same whether they come in one call or in two.

        Returns:
            ``(n, count)`` int32 item_idx that the user has not met in her training part.

        Raises:
            MfganError: A user does not exist, or has met every item.
        """
        users = _checked(users, self._dataset, count)
        key = _key(self._seed, _TRAINING, epoch)
        drawn = np.empty((len(users), count), np.int32)
        failed = over_parts(
            draw_unmet,
            row_parts(len(users)),
            users,
            key,
            first_row,
            self._dataset.num_items,
            self._dataset.items,
            self._dataset.offsets,
            self._dataset.train_end,
            *self._table,
            drawn,
        )
        _refuse(self._dataset, max(failed), 1)
        return drawn


def evaluation_negatives(dataset: PreparedDataset, split: Split, n: int, seed: int) -> np.ndarray:
    """Negatives to rank a target against: distinct, and nothing the user has in her whole log.

    Args:
        dataset: The prepared data set.
        split: Whose targets; the same user has the same negatives in both.
        n: Negatives a user.
        seed: Seed of the draws.

    Returns:
        ``(num_targets, n)`` int32, aligned with ``dataset.target_users(split)``; uniform.

    Raises:
        MfganError: A user has not enough items left.
    """
    users = _checked(dataset.target_users(split), dataset, n)
    if len(users) and n > dataset.num_items:
        _refuse(dataset, int(users[0]), n)  # before there is a table of so many
    drawn = np.empty((len(users), n), np.int32)
    failed = over_parts(
        draw_distinct,
        row_parts(len(users)),
        users,
        _key(seed, _EVALUATION, 0),
        dataset.num_items,
        dataset.items,
        dataset.offsets,
        drawn,
    )
    _refuse(dataset, max(failed), n)
    return drawn


def _probabilities(dataset: PreparedDataset, share: float, exponent: float) -> np.ndarray:
    probabilities = np.full(dataset.num_items + 1, (1 - share) / dataset.num_items)
    if share > 0:
        weights = dataset.train_counts().astype(np.float64)
        weights = np.where(weights > 0, weights**exponent, 0.0)
        probabilities += share * weights / weights.sum()
    probabilities[0] = 0
    return probabilities


def _key(seed: int, use: int, epoch: int) -> np.uint64:
    words = np.random.SeedSequence([seed, use, epoch]).generate_state(1, np.uint64)
    return np.uint64(words[0])


def _checked(users: np.ndarray, dataset: PreparedDataset, count: int) -> np.ndarray:
    if count < 1:
        raise MfganError(f"negatives: count must be at least 1, got {count}")
    users = np.ascontiguousarray(users, np.int64)
    if len(users) and (users.min() < 0 or users.max() >= dataset.num_users):
        wrong = users[(users < 0) | (users >= dataset.num_users)][0]
        raise MfganError(
            f"negatives: user_idx must be within 0..{dataset.num_users - 1}, got {wrong}"
        )
    return users


def _refuse(dataset: PreparedDataset, user: int, count: int) -> None:
    if user >= 0:
        raise MfganError(
            f"negatives: {count} must be left of {dataset.num_items} items, fewer are for user"
            f" {dataset.user_ids[user]!r}"
        )


def _no_table() -> tuple[np.ndarray, np.ndarray]:
    return np.empty(0, np.float64), np.empty(0, np.int32)
