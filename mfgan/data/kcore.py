"""k-core: each user and item keeps at least k interactions, repeated until nothing changes.

Symmetric: an interaction leaves when its user or its item has fallen below k, and only then; no
user is dropped because one of her items was rare.

The rows are read three times: to count, to collect, and for the answer. Only who has a low count
can fall easily, so the rows that touch nobody with a low count are set aside, and the repetition
walks the few others, which shrink as it goes. Should somebody with a high count fall all the same,
it counts and collects again.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from mfgan.data.parallel import over_parts, row_parts, together
from mfgan.errors import MfganError

# Who has how many rows left; joined by "or" the state of a row.
_HIGH, _LOW, _GONE = np.uint8(0), np.uint8(1), np.uint8(2)

_FEW = 2  # a count is low below this many times its bound
_WALKS = 8
_BLOCK = 512


@dataclass(frozen=True)
class Core:
    """What a k-core leaves.

    Args:
        user_counts: ``(num_users,)`` rows of each user within the core, 0 for who is not in it.
        item_counts: ``(num_items,)`` rows of each item within the core.
    """

    user_counts: np.ndarray
    item_counts: np.ndarray

    def rows(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """``(n,)`` bool: which interactions stay; arguments as for `k_core`."""
        users, items = _as_int32("users", users), _as_int32("items", items)
        counts = self.user_counts, self.item_counts
        states = [np.where(count > 0, _HIGH, _GONE) for count in counts]
        keep: np.ndarray = _joined(users, items, states[0], states[1]) == _HIGH
        return keep


def k_core(users: np.ndarray, items: np.ndarray, *, k: int, k_users: int | None = None) -> Core:
    """The largest part of a log in which every user and item has at least ``k`` interactions.

    Args:
        users: ``(n,)`` integer codes, dense from 0: memory is some bytes a code. int32 ones are
            not copied.
        items: ``(n,)`` integer codes; a row with item -1 is not there.
        k: At least so many interactions an item, and a user; 1 keeps all who have any.
        k_users: Another bound for users.

    Returns:
        Who stays.

    Raises:
        MfganError: A bound is below 1, the columns differ in length, or a code is out of range.

    Example:
        >>> core = k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 2]), k=2)
        >>> core.user_counts.tolist(), core.item_counts.tolist()
        ([2, 2, 0], [2, 2, 0])
    """
    least = (k if k_users is None else k_users, k)
    if min(least) < 1:
        raise MfganError(f"k-core: k must be at least 1, got {min(least)}")
    if users.ndim != 1 or users.shape != items.shape:
        raise MfganError(
            f"k-core: users and items must be 1-d and of one length, got shapes {users.shape} and"
            f" {items.shape}"
        )
    if users.min(initial=0) < 0:
        raise MfganError(f"k-core: users must be codes from 0, got {users.min()}")
    users, items = _as_int32("users", users), _as_int32("items", items)
    dtype = np.int32 if len(users) < 1 << 31 else np.int64
    counts = (
        np.zeros(int(users.max(initial=-1)) + 1, dtype),
        np.zeros(int(items.max(initial=-1)) + 1, dtype),
    )
    together(
        [
            lambda: _count_rows(users, items, counts[0]),
            lambda: _count_rows(items, items, counts[1]),
        ]
    )
    if max(least) > 1 and counts[1].size:
        _shrink(users, items, counts, least)
    return Core(*counts)


def _as_int32(name: str, codes: np.ndarray) -> np.ndarray:
    if codes.max(initial=0) >= (1 << 31) - 1:
        raise MfganError(f"k-core: {name} must be codes below 2**31 - 1, got {codes.max()}")
    if codes.min(initial=0) < -1:
        raise MfganError(f"k-core: {name} must be codes from 0 or -1, got {codes.min()}")
    return np.ascontiguousarray(codes, np.int32)


def _shrink(
    users: np.ndarray,
    items: np.ndarray,
    counts: tuple[np.ndarray, np.ndarray],
    least: tuple[int, int],
) -> None:
    """Bring the counts down to those within the core."""
    parts = row_parts(len(users))
    starts = np.array([first for first, _ in parts], np.int64)
    watched = np.empty_like(users), np.empty_like(items)
    few = _FEW
    while True:
        states = [_states(count, bound * few) for count, bound in zip(counts, least, strict=True)]
        joined = _joined(users, items, states[0], states[1])
        ends = np.array(over_parts(_collect, parts, users, items, joined, *watched), np.int64)
        del joined
        left, _ = _sweep(*watched, starts, ends, *counts, *least)
        if left:
            _peel(watched[0][:left], watched[1][:left], *counts, *least)
        keeps = np.greater_equal(counts[0], least[0]), np.greater_equal(counts[1], least[1])
        # Who is out with rows left was not watched: those rows are in nobody's list.
        if all(not count[~keep].any() for count, keep in zip(counts, keeps, strict=True)):
            return
        for count in counts:
            count[:] = 0
        _recount(users, items, *keeps, *counts)
        few *= 4  # so that few turns remain, whatever the log


def _states(counts: np.ndarray, low: int) -> np.ndarray:
    """``(n,)`` uint8 of each count; who has none left by now has no row that is still there."""
    return np.where(counts == 0, _GONE, np.where(counts < low, _LOW, _HIGH))


def _joined(
    users: np.ndarray, items: np.ndarray, of_user: np.ndarray, of_item: np.ndarray
) -> np.ndarray:
    """``(n,)`` uint8 state of each row. Two bytes a row from far away, where counts were eight."""
    joined = np.empty(len(users), np.uint8)
    # Item -1, of a row that is not there, finds the last state.
    of_item = np.append(of_item, _GONE)
    over_parts(_join_states, row_parts(len(users)), users, items, of_user, of_item, joined)
    return joined


@njit(cache=True, nogil=True)
def _count_rows(codes, items, counts):  # type: ignore[no-untyped-def]
    for row in range(codes.shape[0]):
        if items[row] >= 0:
            counts[codes[row]] += 1


@njit(cache=True, nogil=True)
def _recount(users, items, keeps_user, keeps_item, user_counts, item_counts):  # type: ignore[no-untyped-def]
    for row in range(users.shape[0]):
        user, item = users[row], items[row]
        if item >= 0 and keeps_user[user] and keeps_item[item]:
            user_counts[user] += 1
            item_counts[item] += 1


@njit(cache=True, nogil=True)
def _join_states(first, end, users, items, of_user, of_item, joined):  # type: ignore[no-untyped-def]
    for row in range(first, end):
        joined[row] = of_user[users[row]] | of_item[items[row]]


@njit(cache=True, nogil=True)
def _collect(first, end, users, items, joined, out_users, out_items):  # type: ignore[no-untyped-def]
    """Move the watched rows of a part to its front; returns where they end."""
    size = first
    for row in range(first, end):
        # No branch: whether a row is watched cannot be predicted.
        out_users[size] = users[row]
        out_items[size] = items[row]
        size += joined[row] == _LOW
    return size


@njit(cache=True, nogil=True)
def _sweep(users, items, starts, ends, user_counts, item_counts, least_user, least_item):  # type: ignore[no-untyped-def]
    """Walk the watched rows, dropping those of who is out, until a walk drops none.

    Falls spread within a walk, so a few walks are enough for real logs. A first loop over each
    block only touches its counts, so that the second finds them in the cache.

    Returns:
        Rows left, moved to the front, if the walks were given up, else 0; and a number that keeps
        the touching from being optimised away.
    """
    size = 0
    for part in range(starts.shape[0]):
        for row in range(starts[part], ends[part]):
            users[size], items[size] = users[row], items[row]
            size += 1
    touched = user_counts[0]
    for _ in range(_WALKS):
        kept = 0
        for block in range(0, size, _BLOCK):
            end = min(block + _BLOCK, size)
            for row in range(block, end):
                touched ^= user_counts[users[row]] ^ item_counts[items[row]]
            for row in range(block, end):
                user, item = users[row], items[row]
                if user_counts[user] < least_user or item_counts[item] < least_item:
                    user_counts[user] -= 1
                    item_counts[item] -= 1
                else:
                    users[kept], items[kept] = user, item
                    kept += 1
        if kept == size:
            return 0, touched
        size = kept
    return size, touched


@njit(cache=True, nogil=True)
def _rows_by(codes, size):  # type: ignore[no-untyped-def]
    """Rows in the order of their codes: ``(size + 1,)`` bounds and ``(n,)`` row numbers."""
    bounds = np.zeros(size + 2, np.int64)
    for row in range(codes.shape[0]):
        bounds[codes[row] + 2] += 1
    for code in range(size):
        bounds[code + 2] += bounds[code + 1]
    rows = np.empty(codes.shape[0], np.int64)
    for row in range(codes.shape[0]):
        rows[bounds[codes[row] + 1]] = row
        bounds[codes[row] + 1] += 1
    return bounds[:-1], rows


@njit(cache=True, nogil=True)
def _peel(users, items, user_counts, item_counts, least_user, least_item):  # type: ignore[no-untyped-def]
    """Drop rows along a queue of who falls: linear whatever the log, where walks are not."""
    num_users = user_counts.shape[0]
    user_bounds, user_rows = _rows_by(users, num_users)
    item_bounds, item_rows = _rows_by(items, item_counts.shape[0])
    # Each falls once; items stand in the queue above the users.
    queue = np.empty(num_users + item_counts.shape[0], np.int64)
    size = 0
    for user in range(num_users):
        if user_counts[user] < least_user and user_bounds[user] < user_bounds[user + 1]:
            queue[size] = user
            size += 1
    for item in range(item_counts.shape[0]):
        if item_counts[item] < least_item and item_bounds[item] < item_bounds[item + 1]:
            queue[size] = num_users + item
            size += 1
    gone = np.zeros(users.shape[0], np.bool_)
    at = 0
    while at < size:
        node = queue[at]
        at += 1
        is_user = node < num_users
        bounds, rows = (user_bounds, user_rows) if is_user else (item_bounds, item_rows)
        code = node if is_user else node - num_users
        for place in range(bounds[code], bounds[code + 1]):
            row = rows[place]
            if gone[row]:
                continue
            gone[row] = True
            user, item = users[row], items[row]
            user_counts[user] -= 1
            item_counts[item] -= 1
            if is_user and item_counts[item] == least_item - 1:
                queue[size] = num_users + item
                size += 1
            elif not is_user and user_counts[user] == least_user - 1:
                queue[size] = user
                size += 1
