"""Laying a log out user by user against a stable sort of the rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfgan.data import grouping
from mfgan.data.grouping import lay_out, mark_repeats

NO_KEYS = np.zeros(0, np.int64)


def check(users, items, keys, num_users):
    offsets, got_users, got_items, got_keys = lay_out(users, items, keys, num_users=num_users)
    order = np.lexsort((np.arange(len(users)), *([keys] if len(keys) else []), users))
    np.testing.assert_array_equal(got_users, users[order])
    np.testing.assert_array_equal(got_items, items[order])
    np.testing.assert_array_equal(got_keys, keys[order] if len(keys) else NO_KEYS)
    counts = np.bincount(users, minlength=num_users)
    np.testing.assert_array_equal(offsets, np.concatenate([[0], np.cumsum(counts)]))
    once = got_items.copy()
    mark_repeats(offsets, None, once)
    again = repeats(users[order], items[order], np.zeros(len(users), int))
    np.testing.assert_array_equal(once, np.where(again, -1, items[order]))
    twin = repeats(users[order], got_items, got_keys) if len(keys) else []
    if len(keys):
        marked = mark_repeats(offsets, got_keys, got_items)
        np.testing.assert_array_equal(got_items, np.where(twin, -1, items[order]))
        assert marked == sum(twin)
    return twin


def repeats(users, items, keys):
    seen, found = set(), []
    for row in zip(users.tolist(), items.tolist(), keys.tolist(), strict=True):
        found.append(row in seen)
        seen.add(row)
    return found


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(-2, 3)), max_size=60),
    st.integers(6, 9),
    st.booleans(),
)
def test_small_logs(rows, num_users, has_keys):
    users, items, keys = np.array(rows, np.int64).reshape(-1, 3).T
    keys = keys.copy() if has_keys else NO_KEYS
    check(users.astype(np.int32), items.astype(np.int32), keys, num_users)


@pytest.mark.parametrize("num_users", [3, 700, 40_000])
def test_many_rows_over_threads_and_buckets(num_users, monkeypatch):
    # Long histories are merged, long runs of one time are searched by sorting.
    rng = np.random.default_rng(num_users)
    users = (rng.random(150_000) ** 2 * num_users).astype(np.int32)
    items = rng.integers(0, 500, 150_000).astype(np.int32)
    keys = rng.integers(0, 40, 150_000)
    found = check(users, items, keys, num_users)
    assert any(found)
    results = []
    for threads in (1, 3):
        monkeypatch.setattr("mfgan.data.parallel.num_threads", lambda threads=threads: threads)
        results.append(grouping.lay_out(users, items, keys, num_users=num_users))
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)
