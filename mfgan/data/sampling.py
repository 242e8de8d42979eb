"""Negative items: ones that a user has not met, drawn in Numba.

Every draw is a function of (seed, epoch, row) through a counter-based generator, so the result
depends neither on the order of the work nor on the number of threads.
"""

from typing import Literal

import numpy as np
from numba import njit

from mfgan.data.dataset import PreparedDataset, Split
from mfgan.data.parallel import over_parts, row_parts
from mfgan.errors import MfganError

_TRAINING, _EVALUATION = 102, 103  # tell these uses of a seed from every other one
_TRIES = 100  # draws of one negative before it is taken from the list of all that are possible
_STEP = np.uint64(0x9E3779B97F4A7C15)


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
        self._table = _no_table() if is_uniform else _alias_table(self._probabilities[1:])

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
            _sample,
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
    drawn = np.empty((len(users), n), np.int32)
    failed = over_parts(
        _sample_distinct,
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


@njit(cache=True, nogil=True)
def _alias_table(probabilities):  # type: ignore[no-untyped-def]
    """Walker's and Vose's table: a draw takes one cell, and keeps it or takes its alias."""
    size = probabilities.shape[0]
    keep = probabilities * size
    alias = np.arange(size).astype(np.int32)
    small, large = np.empty(size, np.int32), np.empty(size, np.int32)
    num_small = num_large = 0
    for cell in range(size):
        if keep[cell] < 1.0:
            small[num_small] = cell
            num_small += 1
        else:
            large[num_large] = cell
            num_large += 1
    while num_small > 0 and num_large > 0:
        num_small -= 1
        poor, rich = small[num_small], large[num_large - 1]
        alias[poor] = rich
        keep[rich] -= 1.0 - keep[poor]
        if keep[rich] < 1.0:
            num_large -= 1
            small[num_small] = rich
            num_small += 1
    # What is left over is 1 but for rounding.
    for place in range(num_small):
        keep[small[place]] = 1.0
    for place in range(num_large):
        keep[large[place]] = 1.0
    return keep, alias


@njit(cache=True, nogil=True, inline="always")
def _mixed(word):  # type: ignore[no-untyped-def]
    # The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@njit(cache=True, nogil=True, inline="always")
def _unit(word):  # type: ignore[no-untyped-def]
    return np.float64(word >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True, inline="always")
def _word_of(item):  # type: ignore[no-untyped-def]
    # Unsigned, since a negative index counts from the end and is tested for.
    return np.uint64(item) >> np.uint64(6)


@njit(cache=True, nogil=True, inline="always")
def _bit_of(item):  # type: ignore[no-untyped-def]
    return np.uint64(1) << (np.uint64(item) & np.uint64(63))


@njit(cache=True, nogil=True, inline="always")
def _has(bits, item):  # type: ignore[no-untyped-def]
    return bits[_word_of(item)] & _bit_of(item) != np.uint64(0)


@njit(cache=True, nogil=True, inline="always")
def _add(bits, item):  # type: ignore[no-untyped-def]
    bits[_word_of(item)] |= _bit_of(item)


@njit(cache=True, nogil=True)
def _nth_left(bits, num_items, nth):  # type: ignore[no-untyped-def]
    for item in range(1, num_items + 1):
        if not _has(bits, item):
            if nth == 0:
                return item
            nth -= 1
    return np.int64(0)


@njit(cache=True, nogil=True)
def _meet(bits, items, first, end):  # type: ignore[no-untyped-def]
    """Mark what was met; returns how many items that is."""
    met = 0
    for row in range(first, end):
        word, bit = _word_of(items[row]), _bit_of(items[row])
        before = bits[word]
        bits[word] = before | bit
        met += 1 if before & bit == np.uint64(0) else 0
    return met


@njit(cache=True, nogil=True)
def _forget(bits, items, first, end):  # type: ignore[no-untyped-def]
    """Unmark what was met."""
    if end - first > bits.shape[0]:
        for word in range(bits.shape[0]):
            bits[word] = np.uint64(0)
        return
    for row in range(first, end):
        bits[_word_of(items[row])] = np.uint64(0)


@njit(cache=True, nogil=True, inline="always")
def _draw(word, num_items, keep, alias):  # type: ignore[no-untyped-def]
    """An item by one random word, through the alias table if there is one."""
    unit = _unit(_mixed(word)) * num_items
    cell = np.int64(unit)
    if keep.shape[0] > 0 and unit - cell >= keep[cell]:
        cell = np.int64(alias[cell])
    return cell + 1


@njit(cache=True, nogil=True)
def _draw_again(word, bits, num_items, left, keep, alias):  # type: ignore[no-untyped-def]
    """An item not met, after the first draw, that of ``word``, was one that was."""
    for _ in range(_TRIES - 1):
        word += _STEP
        item = _draw(word, num_items, keep, alias)
        if not _has(bits, item):
            return item
    # Nearly all that is likely was met: any one of the others.
    word += _STEP
    return _nth_left(bits, num_items, np.int64(_unit(_mixed(word)) * left))


@njit(cache=True, nogil=True)
def _sample(  # type: ignore[no-untyped-def]
    first, end, users, key, first_row, num_items, items, offsets, train_end, keep, alias, drawn
):
    """Fill a part of the rows; returns a user who has met every item, or -1."""
    bits = np.zeros(num_items // 64 + 1, np.uint64)
    count = drawn.shape[1]
    flat = drawn.reshape(drawn.size)
    offset = np.uint64(first_row) * np.uint64(count)
    row = first
    while row < end:
        user = users[row]
        start, stop = offsets[user], offsets[user] + train_end[user]
        left = num_items - _meet(bits, items, start, stop)
        if left == 0:
            return user
        begin = np.uint64(row * count)
        while row < end and users[row] == user:
            row += 1
        places = np.uint64(row * count) - begin
        # All first draws without looking at what was met: where there is no table, that loop has no
        # branch and becomes one of vectors.
        if keep.shape[0] > 0:
            for i in range(places):
                word = _mixed(key + (offset + begin + i) * _STEP) + _STEP
                flat[begin + i] = _draw(word, num_items, keep, alias)
        else:
            for i in range(places):
                word = _mixed(key + (offset + begin + i) * _STEP) + _STEP
                flat[begin + i] = np.int64(_unit(_mixed(word)) * num_items) + 1
        for i in range(places):
            if _has(bits, flat[begin + i]):
                word = _mixed(key + (offset + begin + i) * _STEP) + _STEP
                flat[begin + i] = _draw_again(word, bits, num_items, left, keep, alias)
        _forget(bits, items, start, stop)
    return -1


@njit(cache=True, nogil=True)
def _sample_distinct(first, end, users, key, num_items, items, offsets, drawn):  # type: ignore[no-untyped-def]
    """Fill a part of the rows; returns a user with too few items left, or -1."""
    bits = np.zeros(num_items // 64 + 1, np.uint64)
    count = drawn.shape[1]
    for row in range(first, end):
        user = users[row]
        left = num_items - _meet(bits, items, offsets[user], offsets[user + 1])
        if left < count:
            return user
        word = _mixed(key + np.uint64(user) * _STEP)
        for column in range(count):
            item = np.int64(0)
            for _ in range(_TRIES):
                word += _STEP
                candidate = np.int64(_unit(_mixed(word)) * num_items) + 1
                if not _has(bits, candidate):
                    item = candidate
                    break
            if item == 0:
                word += _STEP
                nth = np.int64(_unit(_mixed(word)) * (left - column))
                item = _nth_left(bits, num_items, nth)
            # A drawn one counts as met, so that it is drawn once.
            _add(bits, item)
            drawn[row, column] = item
        for column in range(count):
            bits[_word_of(drawn[row, column])] = np.uint64(0)
        _forget(bits, items, offsets[user], offsets[user + 1])
    return -1
