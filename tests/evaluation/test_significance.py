"""Intervals and tests: by hand where that can be, by simulation where not."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from made_scores import TableScorer, random_dataset

from mfgan.errors import MfganError
from mfgan.evaluation.bootstrap import mean_intervals
from mfgan.evaluation.protocol import evaluate
from mfgan.evaluation.significance import compare, holm, randomisation_test


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1, then never falling, never over 1.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_randomisation_equals_all_sign_patterns():
    differences = np.array([0.9, 0.4, -0.1, 0.7, 0.0, 0.3, 0.2, 0.5])[:, None]
    goal = abs(differences.sum())
    patterns = [abs(float(np.dot(s, differences[:, 0]))) for s in product([-1, 1], repeat=8)]
    exact = np.mean([value >= goal - 1e-9 for value in patterns])
    found = randomisation_test(differences, flips=200_000)[0]
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / 200_000))


def test_no_difference_at_all():
    assert randomisation_test(np.zeros((9, 2))).tolist() == [1.0, 1.0]


def test_p_values_of_equals_are_uniform():
    rng = np.random.default_rng(0)
    found = randomisation_test(rng.normal(size=(50, 400)), flips=999)
    share = (found < 0.1).mean()
    assert share == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / 400))


def test_bootstrap_is_near_the_normal_interval():
    rng = np.random.default_rng(1)
    values = rng.exponential(size=(4000, 2)) * [1.0, 5.0]
    half = 1.96 * values.std(axis=0) / np.sqrt(4000)
    expected = np.stack([values.mean(axis=0) - half, values.mean(axis=0) + half], axis=1)
    np.testing.assert_allclose(mean_intervals(values), expected, atol=0.1 * half.max())


def test_counts_stand_for_repeated_rows():
    rows, counts = np.array([[0.0], [1.0], [0.5]]), np.array([300, 200, 100])
    short = mean_intervals(rows, counts=counts, resamples=20_000)
    long = mean_intervals(np.repeat(rows, counts, axis=0), resamples=20_000)
    np.testing.assert_allclose(short, long, atol=2e-3)


def test_intervals_of_nobody_are_nan():
    assert np.isnan(mean_intervals(np.zeros((0, 2)))).all()


@pytest.fixture(scope="module")
def pair():
    dataset = random_dataset(num_users=400)
    rng = np.random.default_rng(2)
    table = rng.normal(size=(400, 51))
    helped = table.copy()
    users = dataset.target_users("test")
    helped[users, dataset.targets("test")] += 1.0
    return tuple(evaluate(dataset, TableScorer(t), max_len=9) for t in (helped, table))


def test_a_real_gain_is_found_and_a_copy_is_not(pair):
    better, worse = pair
    found = compare(better, {"worse": worse, "itself": better})
    assert [(c.against, c.metric) for c in found] == [
        (name, metric) for name in ("worse", "itself") for metric in ("HR@10", "NDCG@10", "MRR")
    ]
    for row in found[:3]:
        gain = better.metrics[row.metric] - worse.metrics[row.metric]
        assert row.difference == pytest.approx(gain)
        assert 0 < row.interval[0] < gain < row.interval[1]
        assert row.p_value == pytest.approx(1 / 10_001)
        assert row.p_holm == pytest.approx(6 / 10_001)
    for row in found[3:]:
        assert (row.difference, row.interval, row.p_value, row.p_holm) == (0, (0, 0), 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "validation"}, "other must have split test, got validation"),
        ({"protocol": "sampled:9"}, "other must have protocol full, got sampled:9"),
        ({"users": np.arange(400)[::-1]}, "other must be of the same users, got others"),
    ],
)
def test_only_like_is_compared(pair, change, message):
    with pytest.raises(MfganError, match=message):
        compare(pair[0], {"other": replace(pair[1], **change)})


def test_unknown_metrics_are_named(pair):
    with pytest.raises(MfganError, match=r"compare: metrics must be of HR@1, .*, got 'NDCG@11'"):
        compare(pair[0], {}, metrics=["NDCG@11"])
