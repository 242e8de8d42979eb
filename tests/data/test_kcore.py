"""k-core against a plain NumPy loop, and the properties that define it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfgan.data.kcore import k_core
from mfgan.errors import MfganError


def twin(users, items, k_users, k_items):
    """Which rows stay, by counting again and again."""
    keep = items >= 0
    while True:
        by_user = np.bincount(users[keep], minlength=users.max(initial=0) + 1)
        by_item = np.bincount(items[keep], minlength=items.max(initial=0) + 1)
        stays = keep & (by_user[users] >= k_users) & (by_item[items] >= k_items)
        if np.array_equal(stays, keep):
            return keep
        keep = stays


def check(users, items, k_users, k_items):
    core = k_core(users, items, k=k_items, k_users=k_users)
    keep = core.rows(users, items)
    np.testing.assert_array_equal(keep, twin(users, items, k_users, k_items))
    for counts, codes in ((core.user_counts, users), (core.item_counts, items)):
        np.testing.assert_array_equal(counts, np.bincount(codes[keep], minlength=len(counts)))
    return keep


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 7)), max_size=80),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([np.int32, np.int64]),
)
def test_small_logs(rows, k_users, k_items, dtype):
    users, items = np.array(rows, dtype).reshape(-1, 2).T.copy()
    check(users, items, k_users, k_items)


@pytest.mark.parametrize("k", [2, 5, 12])
def test_a_log_of_many_threads(k):
    rng = np.random.default_rng(k)
    users = (rng.random(300_000) ** 3 * 40_000).astype(np.int32)
    items = (rng.random(300_000) ** 4 * 30_000).astype(np.int32)
    keep = check(users, items, k, k)
    assert 0 < keep.sum() < len(keep)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_chain_that_falls_one_by_one(shuffled):
    # User n meets items n and n + 1: the loose end of the chain falls, then its neighbour, …
    size = 20_000
    users = np.repeat(np.arange(size), 2)
    items = users + np.tile([0, 1], size)
    order = np.random.default_rng(0).permutation(len(users)) if shuffled else np.s_[::-1]
    core = k_core(users[order].astype(np.int32), items[order].astype(np.int32), k=2)
    assert not core.user_counts.any()
    assert not core.item_counts.any()


def test_somebody_with_a_high_count_falls():
    # User 0 has 20 rows, 17 of them with items of nobody else.
    users = np.array([0] * 20 + [1] * 3 + [2] * 3 + [3, 3], np.int32)
    items = np.array([*range(10, 27), 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1], np.int32)
    keep = check(users, items, 3, 3)
    assert keep.sum() == 9
    assert not check(users, items, 4, 3).any()


def test_one_rare_item_does_not_cost_its_user():
    users = np.array([0, 0, 0, 1, 1], np.int32)
    items = np.array([0, 1, 2, 0, 1], np.int32)
    assert check(users, items, 2, 2).tolist() == [True, True, False, True, True]


def test_one_switches_it_off():
    users, items = np.array([0, 2], np.int32), np.array([3, 0], np.int32)
    core = k_core(users, items, k=1)
    assert core.rows(users, items).all()
    assert core.user_counts.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("users", "items", "k", "message"),
    [
        ([0], [0], 0, "k must be at least 1, got 0"),
        ([0], [0, 1], 2, "must be 1-d and of one length"),
        ([[0]], [[0]], 2, "must be 1-d and of one length"),
        ([0], [1 << 31], 2, "items must be codes below"),
        ([0], [-2], 2, "items must be codes from 0 or -1, got -2"),
        ([-1], [0], 2, "users must be codes from 0, got -1"),
    ],
)
def test_what_is_no_log_is_refused(users, items, k, message):
    with pytest.raises(MfganError, match=message):
        k_core(np.array(users), np.array(items), k=k)
