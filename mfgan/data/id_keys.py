"""Text ids as keys of two words, which numba loops compare and order without looking at the text.

A key of at most fifteen bytes holds them, big end first, and their number in its last byte: keys
are equal where the texts are, and in the order of the texts. Of a longer text a key holds a hash
and where the text stands in an arena, eight bytes of length before it.
"""

import numpy as np
from numba import njit

MOST_BYTES = 15  # of a text that stands in its key
LONG = np.uint64(255)  # the last byte of a key whose text stands in the arena
_BYTE = np.uint64(8)
_HALF = np.uint64(32)
_FIRST = np.uint64(0x9E3779B97F4A7C15)
_SECOND = np.uint64(0xC2B2AE3D27D4EB4F)


def _top_bytes(count: int) -> int:
    return ((1 << 8 * count) - 1) << 8 * (8 - count)


# What a text of so many bytes fills of the first and of the second word.
_FILLED = np.array(
    [
        [_top_bytes(min(size, 8)) for size in range(MOST_BYTES + 1)],
        [_top_bytes(max(size - 8, 0)) for size in range(MOST_BYTES + 1)],
    ],
    np.uint64,
)


@njit(cache=True, nogil=True, inline="always")
def _word(data, place):  # type: ignore[no-untyped-def]
    # Eight shifted bytes, which LLVM makes one load; unsigned indices, since a negative one counts
    # from the end and the test for it would keep the loads apart.
    at = np.uint64(place)
    word = np.uint64(data[at])
    for byte in range(1, 8):
        word = (word << _BYTE) | np.uint64(data[at + np.uint64(byte)])
    return word


@njit(cache=True, nogil=True, inline="always")
def mixed(word):  # type: ignore[no-untyped-def]
    """A hash of one word."""
    word = (word ^ (word >> _HALF)) * _FIRST
    word = (word ^ (word >> np.uint64(29))) * _SECOND
    return word ^ (word >> _HALF)


@njit(cache=True, nogil=True, inline="always")
def hash_of(first, second):  # type: ignore[no-untyped-def]
    """The hash of a key; that of a long text is its first word."""
    if second & LONG == LONG:
        return first
    return mixed((first ^ (first >> _HALF)) * _SECOND ^ second)


@njit(cache=True, nogil=True)
def _hash_text(data, start, end):  # type: ignore[no-untyped-def]
    found = mixed(np.uint64(end - start))
    for place in range(start, end - 8, 8):
        found = mixed(found ^ _word(data, place))
    # The last word overlaps the one before it.
    return mixed(found ^ _word(data, end - 8))


@njit(cache=True, nogil=True)
def keys_of(offsets, data, keys):  # type: ignore[no-untyped-def]
    """Write the ``(n, 2)`` keys of texts between ``(n + 1,)`` bounds; of long ones without a place.

    Returns:
        Bytes of the longest text.
    """
    rows = keys.shape[0]
    safe, longest = rows, 0
    while safe > 0 and offsets[safe - 1] + 16 > data.shape[0]:
        safe -= 1
    # Without a branch for the texts that are read otherwise: with one this loop takes ten times
    # as long.
    for row in range(safe):
        start = offsets[row]
        length = offsets[row + 1] - start
        longest = max(longest, length)
        length = min(length, MOST_BYTES)
        keys[row, 0] = _word(data, start) & _FILLED[0, length]
        keys[row, 1] = _word(data, start + 8) & _FILLED[1, length] | np.uint64(length)
    for row in range(0 if longest > MOST_BYTES else safe, rows):
        start, end = offsets[row], offsets[row + 1]
        longest = max(longest, end - start)
        if end - start > MOST_BYTES:
            keys[row, 0], keys[row, 1] = _hash_text(data, start, end), LONG
        elif row >= safe:
            keys[row, 0], keys[row, 1] = _key_at_end(data, start, end - start)
    return longest


@njit(cache=True, nogil=True)
def _key_at_end(data, start, length):  # type: ignore[no-untyped-def]
    first, second = np.uint64(0), np.uint64(length)
    for byte in range(min(length, 8)):
        first |= np.uint64(data[start + byte]) << np.uint64(56 - 8 * byte)
    for byte in range(8, length):
        second |= np.uint64(data[start + byte]) << np.uint64(120 - 8 * byte)
    return first, second


@njit(cache=True, nogil=True)
def is_text(data, start, end, key, arena):  # type: ignore[no-untyped-def]
    """Whether a long text is the one that a key with the same hash points at."""
    if key & LONG != LONG:
        return False
    place = np.int64(key >> _BYTE)
    if _word(arena, place) != np.uint64(end - start):
        return False
    same = True
    for step in range(end - start):
        same &= data[start + step] == arena[place + 8 + step]
    return same


@njit(cache=True, nogil=True)
def store_text(data, start, end, arena, used):  # type: ignore[no-untyped-def]
    """Put a long text into the arena, ``used`` bytes of which are; returns its second word."""
    length = np.uint64(end - start)
    for byte in range(8):
        arena[used + byte] = (length >> np.uint64(56 - 8 * byte)) & LONG
    for step in range(end - start):
        arena[used + 8 + step] = data[start + step]
    return (np.uint64(used) << _BYTE) | LONG


@njit(cache=True, nogil=True)
def text_bounds(keys, arena, bounds):  # type: ignore[no-untyped-def]
    """Write the ``(n + 1,)`` bounds of the texts of ``(n, 2)`` keys, laid end to end."""
    bounds[0] = 0
    for row in range(keys.shape[0]):
        length = np.int64(keys[row, 1] & LONG)
        if length > MOST_BYTES:
            length = np.int64(_word(arena, np.int64(keys[row, 1] >> _BYTE)))
        bounds[row + 1] = bounds[row] + length


@njit(cache=True, nogil=True)
def write_texts(keys, arena, bounds, data):  # type: ignore[no-untyped-def]
    """Write the texts of ``(n, 2)`` keys between their bounds."""
    for row in range(keys.shape[0]):
        start, length = bounds[row], bounds[row + 1] - bounds[row]
        if length > MOST_BYTES:
            place = np.int64(keys[row, 1] >> _BYTE) + 8
            data[start : start + length] = arena[place : place + length]
            continue
        for byte in range(length):
            word = keys[row, byte // 8]
            data[start + byte] = (word >> np.uint64(56 - 8 * (byte % 8))) & LONG
