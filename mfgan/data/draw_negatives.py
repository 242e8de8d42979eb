"""The loops of ``sampling``: items drawn from a counter, none of them met before."""

import numpy as np
from numba import njit

_TRIES = 100  # draws of one negative before it is taken from the list of all that are possible
_STEP = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True)
def alias_table(probabilities):  # type: ignore[no-untyped-def]
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
def draw_unmet(  # type: ignore[no-untyped-def]
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
def draw_distinct(first, end, users, key, num_items, items, offsets, drawn):  # type: ignore[no-untyped-def]
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
