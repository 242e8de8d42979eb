"""Numba loops that lay a log out user by user, in time order.

Rows are first parted into some hundred buckets of neighbouring users, then each bucket is grouped
and sorted while it lies in the cache: placing every row of a long log straight into its user's
history would wait for main memory row by row.
"""

import numpy as np
from numba import njit

from mfgan.data.parallel import group_parts, over_parts, row_parts

_BUCKET_BITS = 9
_RUN = 16  # histories are sorted by insertion in runs of this many, then merged


def bounds_of(counts: np.ndarray) -> np.ndarray:
    """``(n + 1,)`` int64 bounds of groups laid end to end, from their ``(n,)`` sizes."""
    bounds = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    return bounds


def lay_out(
    users: np.ndarray, payload: np.ndarray, keys: np.ndarray, *, num_users: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Group rows by user; within a user by key, equal keys in the order they came.

    Args:
        users: ``(n,)`` int32 codes below ``num_users``.
        payload: ``(n,)`` int32, what is laid out.
        keys: ``(n,)`` int64 to sort by, or ``(0,)`` to keep the order they came in.
        num_users: Users there are.

    Returns:
        ``(num_users + 1,)`` int64 bounds of the users, and users, payload and keys laid out.
    """
    shift = max(int(num_users).bit_length() - _BUCKET_BITS, 0)
    num_buckets = (max(num_users - 1, 0) >> shift) + 1
    parts = row_parts(len(users))
    sizes = np.zeros((len(parts), num_buckets), np.int64)
    numbered = [(part, part + 1) for part in range(len(parts))]
    ends = np.array([end for _, end in parts])
    over_parts(_count_buckets, numbered, users, ends, shift, sizes)
    # Part after part within a bucket, so that the order of the rows stays.
    cursors = bounds_of(sizes.T.ravel())[:-1].reshape(num_buckets, len(parts)).T.copy()
    buckets = bounds_of(sizes.sum(0))
    parted = np.empty_like(users), np.empty_like(payload), np.empty_like(keys)
    over_parts(_part_rows, numbered, users, payload, keys, ends, shift, cursors, *parted)
    counts = np.zeros(num_users, np.int64)
    over_parts(_group_buckets, group_parts(buckets), buckets, shift, counts, *parted)
    return bounds_of(counts), *parted


def mark_repeats(offsets: np.ndarray, keys: np.ndarray | None, items: np.ndarray) -> int:
    """Mark rows that repeat an earlier one of the same user, item and key.

    Args:
        offsets: ``(num_users + 1,)`` int64.
        keys: ``(n,)`` int64, ascending within a user; None where the key does not matter.
        items: ``(n,)`` int32; those of repeated rows become -1.

    Returns:
        How many were marked.
    """
    if keys is None:
        keys = np.zeros(0, np.int64)
    return sum(over_parts(_mark_repeats, group_parts(offsets), offsets, keys, items))


@njit(cache=True, nogil=True)
def _count_buckets(part, _, users, ends, shift, sizes):  # type: ignore[no-untyped-def]
    first = ends[part - 1] if part > 0 else 0
    for row in range(first, ends[part]):
        sizes[part, users[row] >> shift] += 1


@njit(cache=True, nogil=True)
def _part_rows(  # type: ignore[no-untyped-def]
    part, _, users, payload, keys, ends, shift, cursors, out_users, out_payload, out_keys
):
    first = ends[part - 1] if part > 0 else 0
    has_keys = keys.shape[0] > 0
    for row in range(first, ends[part]):
        bucket = users[row] >> shift
        place = cursors[part, bucket]
        cursors[part, bucket] = place + 1
        out_users[place] = users[row]
        out_payload[place] = payload[row]
        if has_keys:
            out_keys[place] = keys[row]


@njit(cache=True, nogil=True)
def _group_buckets(first, end, buckets, shift, counts, users, payload, keys):  # type: ignore[no-untyped-def]
    """Group the rows of each bucket by user and sort each user's rows, in place."""
    largest = 0
    for bucket in range(first, end):
        largest = max(largest, buckets[bucket + 1] - buckets[bucket])
    has_keys = keys.shape[0] > 0
    spare_payload = np.empty(largest, np.int32)
    spare_keys = np.empty(largest if has_keys else 0, np.int64)
    cursors = np.empty(1 << shift, np.int64)
    for bucket in range(first, end):
        base, stop = buckets[bucket], buckets[bucket + 1]
        first_user = bucket << shift
        end_user = min(first_user + (1 << shift), counts.shape[0])
        for row in range(base, stop):
            counts[users[row]] += 1
        place = 0
        for user in range(first_user, end_user):
            cursors[user - first_user] = place
            place += counts[user]
        for row in range(base, stop):
            place = cursors[users[row] - first_user]
            cursors[users[row] - first_user] = place + 1
            spare_payload[place] = payload[row]
            if has_keys:
                spare_keys[place] = keys[row]
        place = base
        for user in range(first_user, end_user):
            users[place : place + counts[user]] = user
            place += counts[user]
        payload[base:stop] = spare_payload[: stop - base]
        if not has_keys:
            continue
        keys[base:stop] = spare_keys[: stop - base]
        for user in range(first_user, end_user):
            row = base + cursors[user - first_user]
            _sort_history(keys, payload, row - counts[user], row, spare_keys, spare_payload)


@njit(cache=True, nogil=True)
def _sort_history(keys, payload, first, end, spare_keys, spare_payload):  # type: ignore[no-untyped-def]
    """Sort rows ``first`` to ``end`` by key, stably; spare arrays hold as many rows from 0."""
    is_sorted = True
    for row in range(first + 1, end):
        is_sorted &= keys[row - 1] <= keys[row]
    if is_sorted:
        return
    for run in range(first, end, _RUN):
        for row in range(run + 1, min(run + _RUN, end)):
            key, value = keys[row], payload[row]
            place = row
            while place > run and keys[place - 1] > key:
                keys[place], payload[place] = keys[place - 1], payload[place - 1]
                place -= 1
            keys[place], payload[place] = key, value
    width = _RUN
    while width < end - first:
        for run in range(first, end - width, 2 * width):
            middle, stop = run + width, min(run + 2 * width, end)
            _merge(keys, payload, run, middle, stop, spare_keys, spare_payload)
        width *= 2


@njit(cache=True, nogil=True)
def _merge(keys, payload, first, middle, end, spare_keys, spare_payload):  # type: ignore[no-untyped-def]
    left_size = middle - first
    spare_keys[:left_size] = keys[first:middle]
    spare_payload[:left_size] = payload[first:middle]
    left, right, place = 0, middle, first
    while left < left_size and right < end:
        # The left one first where they are equal: it came first.
        if keys[right] < spare_keys[left]:
            keys[place], payload[place] = keys[right], payload[right]
            right += 1
        else:
            keys[place], payload[place] = spare_keys[left], spare_payload[left]
            left += 1
        place += 1
    for rest in range(left, left_size):
        keys[place], payload[place] = spare_keys[rest], spare_payload[rest]
        place += 1


@njit(cache=True, nogil=True)
def _mark_repeats(first, end, offsets, keys, items):  # type: ignore[no-untyped-def]
    marked, no_keys = 0, keys.shape[0] == 0
    for user in range(first, end):
        start, stop = offsets[user], offsets[user + 1]
        while start < stop:
            run_end = start + 1
            while run_end < stop and (no_keys or keys[run_end] == keys[start]):
                run_end += 1
            if run_end - start > 1:
                marked += _mark_run(items, start, run_end)
            start = run_end
    return marked


@njit(cache=True, nogil=True)
def _mark_run(items, start, end):  # type: ignore[no-untyped-def]
    marked = 0
    if end - start <= _RUN:
        for row in range(start + 1, end):
            for earlier in range(start, row):
                if items[earlier] == items[row]:
                    items[row] = -1
                    marked += 1
                    break
        return marked
    order = start + np.argsort(items[start:end], kind="mergesort")
    last = items[order[0]]
    for place in range(1, order.shape[0]):
        item = items[order[place]]
        if item == last:
            items[order[place]] = -1
            marked += 1
        last = item
    return marked
