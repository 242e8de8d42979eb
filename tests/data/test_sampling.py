"""Negatives: never met, of the stated distribution, the same on any number of threads."""

import numpy as np
import pytest
from made import made_dataset

from mfgan.data.sampling import NegativeSampler, evaluation_negatives
from mfgan.errors import MfganError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("made"), num_users=60, num_items=100)


def chi_square(found, expected):
    return float((((found - expected) ** 2) / expected).sum())


@pytest.mark.parametrize("kind", ["uniform", "popularity", "mixed"])
def test_what_training_has_met_is_never_drawn_and_what_comes_later_is(dataset, kind):
    sampler = NegativeSampler(dataset, kind=kind, seed=3)
    users = np.repeat(np.arange(dataset.num_users), 40)
    drawn = sampler.sample(users, 25, epoch=1)
    assert drawn.shape == (len(users), 25)
    later = 0
    for user in range(dataset.num_users):
        mine = drawn[users == user].ravel()
        assert mine.min() >= 1
        assert mine.max() <= dataset.num_items
        assert not set(mine) & set(dataset.train_history(user))
        later += len(set(mine) & set(dataset.history(user, "all")[-2:]))
    assert later > 0


@pytest.mark.parametrize("kind", ["uniform", "popularity", "mixed"])
def test_the_distribution_is_the_stated_one(dataset, kind):
    sampler = NegativeSampler(dataset, kind=kind, exponent=0.75, popular_share=0.4, seed=0)
    uniform = np.full(100, 0.01)
    popular = dataset.train_counts()[1:] ** 0.75
    popular /= popular.sum()
    expected = {"uniform": uniform, "popularity": popular, "mixed": 0.6 * uniform + 0.4 * popular}
    np.testing.assert_allclose(sampler.probabilities[1:], expected[kind])
    assert sampler.probabilities[0] == 0
    drawn = sampler.sample(np.full(20_000, 7), 10, epoch=0)
    wanted = expected[kind].copy()
    wanted[dataset.train_history(7) - 1] = 0
    possible = wanted > 0
    found = np.bincount(drawn.ravel(), minlength=101)[1:]
    assert not found[~possible].any()
    # 99.99 % of the chi-square distribution with 99 degrees of freedom lies below 159.
    assert chi_square(found[possible], (wanted / wanted.sum() * found.sum())[possible]) < 159


def test_draws_depend_on_seed_epoch_and_row_alone(dataset, monkeypatch):
    users = np.random.default_rng(0).integers(0, dataset.num_users, 70_000)
    sampler = NegativeSampler(dataset, kind="mixed", seed=5)
    drawn = sampler.sample(users, 2, epoch=4)
    np.testing.assert_array_equal(
        sampler.sample(users[100:200], 2, epoch=4, first_row=100), drawn[100:200]
    )
    for threads in (1, 3):
        monkeypatch.setattr("mfgan.data.parallel.num_threads", lambda threads=threads: threads)
        np.testing.assert_array_equal(sampler.sample(users, 2, epoch=4), drawn)
    assert (sampler.sample(users, 2, epoch=5) != drawn).mean() > 0.9
    other = NegativeSampler(dataset, kind="mixed", seed=6)
    assert (other.sample(users, 2, epoch=4) != drawn).mean() > 0.9
    assert (drawn[:, 0] != drawn[:, 1]).mean() > 0.9


def test_evaluation_negatives_are_distinct_and_outside_the_whole_log(dataset):
    drawn = evaluation_negatives(dataset, "test", 80, seed=1)
    users = dataset.target_users("test")
    assert drawn.shape == (len(users), 80)
    for row, user in zip(drawn, users, strict=True):
        assert len(set(row)) == 80
        assert not set(row) & set(dataset.history(user, "all"))
    np.testing.assert_array_equal(evaluation_negatives(dataset, "validation", 80, seed=1), drawn)
    assert (evaluation_negatives(dataset, "test", 80, seed=2) != drawn).mean() > 0.9


def test_evaluation_negatives_are_uniform(dataset):
    counts = np.zeros(101)
    expected = np.zeros(101)
    for seed in range(200):
        drawn = evaluation_negatives(dataset, "test", 5, seed=seed)
        counts += np.bincount(drawn.ravel(), minlength=101)
    for user in dataset.target_users("test"):
        left = np.setdiff1d(np.arange(1, 101), dataset.history(user, "all"))
        expected[left] += 200 * 5 / len(left)
    assert chi_square(counts[1:], expected[1:]) < 159


def test_the_last_items_left_are_found(tmp_path):
    # A catalogue of 12 where users have met up to 11 or all.
    dataset = made_dataset(tmp_path, num_items=12, min_len=20, max_len=40)
    lefts = [12 - len(set(dataset.history(u, "all"))) for u in range(dataset.num_users)]
    sampler = NegativeSampler(dataset, kind="popularity", seed=0)
    for user in range(dataset.num_users):
        possible = set(range(1, 13)) - set(dataset.train_history(user))
        if possible:
            drawn = sampler.sample(np.array([user]), 400, epoch=0)
            assert set(drawn.ravel()) <= possible
        else:
            with pytest.raises(MfganError, match=f"fewer are for user 'u{user:04d}'"):
                sampler.sample(np.array([0, user]), 1, epoch=0)
    assert min(lefts) == 0
    with pytest.raises(MfganError, match="1 must be left of 12 items, fewer are for user"):
        evaluation_negatives(dataset, "test", 1, seed=0)


def test_all_that_is_left_can_be_drawn(dataset):
    least = min(100 - len(set(dataset.history(u, "all"))) for u in range(dataset.num_users))
    drawn = evaluation_negatives(dataset, "test", least, seed=0)
    assert all(len(set(row)) == least for row in drawn)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "hard"}, "kind must be uniform, popularity or mixed, got 'hard'"),
        ({"kind": "mixed", "popular_share": 1.5}, "popular_share must be within 0..1"),
        ({"kind": "popularity", "exponent": -1}, "exponent not negative"),
    ],
)
def test_what_is_no_distribution_is_refused(dataset, options, message):
    with pytest.raises(MfganError, match=message):
        NegativeSampler(dataset, seed=0, **options)


def test_what_cannot_be_drawn_is_refused(dataset):
    sampler = NegativeSampler(dataset, seed=0)
    with pytest.raises(MfganError, match="count must be at least 1, got 0"):
        sampler.sample(np.array([0]), 0, epoch=0)
    with pytest.raises(MfganError, match="within 0..59, got 60"):
        sampler.sample(np.array([0, 60]), 1, epoch=0)
    for count in (101, 10**17):
        with pytest.raises(MfganError, match=f"{count} must be left of 100 items"):
            evaluation_negatives(dataset, "test", count, seed=0)
    assert sampler.sample(np.zeros(0, np.int64), 3, epoch=0).shape == (0, 3)
