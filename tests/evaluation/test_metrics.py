"""Metrics against arithmetic by hand and against two other libraries."""

from math import log2

import numpy as np
import pytest

from mfgan.errors import MfganError
from mfgan.evaluation.metrics import check_cutoffs, metric_names, metric_values

# (better, ties) -> the exact value, written out over the ranks that the target may have.
BY_HAND = [
    (0, 0, {"HR@1": 1, "NDCG@1": 1, "MRR@1": 1, "HR@20": 1, "NDCG@20": 1, "MRR": 1}),
    (2, 0, {"HR@1": 0, "HR@5": 1, "NDCG@5": 1 / log2(4), "MRR@5": 1 / 3, "MRR": 1 / 3}),
    (4, 0, {"HR@5": 1, "NDCG@5": 1 / log2(6), "MRR@5": 1 / 5}),
    (5, 0, {"HR@5": 0, "NDCG@5": 0, "MRR@5": 0, "NDCG@10": 1 / log2(7), "MRR": 1 / 6}),
    (19, 0, {"HR@20": 1, "NDCG@20": 1 / log2(21), "MRR@20": 1 / 20}),
    (20, 0, {"HR@20": 0, "NDCG@20": 0, "MRR@20": 0, "MRR": 1 / 21}),
    # Ranks 1 and 2.
    (0, 1, {"HR@1": 1 / 2, "NDCG@1": 1 / 2, "HR@5": 1, "NDCG@5": (1 + 1 / log2(3)) / 2}),
    (0, 1, {"MRR@1": 1 / 2, "MRR@5": (1 + 1 / 2) / 2, "MRR": (1 + 1 / 2) / 2}),
    # Ranks 4 to 7: two of the four within the first five.
    (3, 3, {"HR@1": 0, "HR@5": 2 / 4, "NDCG@5": (1 / log2(5) + 1 / log2(6)) / 4}),
    (3, 3, {"MRR@5": (1 / 4 + 1 / 5) / 4, "MRR": (1 / 4 + 1 / 5 + 1 / 6 + 1 / 7) / 4}),
    # All 100 the same: ranks 1 to 100.
    (0, 99, {"HR@1": 1 / 100, "HR@10": 10 / 100, "MRR": sum(1 / r for r in range(1, 101)) / 100}),
    (0, 99, {"NDCG@10": sum(1 / log2(r + 1) for r in range(1, 11)) / 100}),
    # Ranks 11 to 13: outside the first ten, inside the first twenty.
    (10, 2, {"HR@10": 0, "NDCG@10": 0, "HR@20": 1, "MRR@20": (1 / 11 + 1 / 12 + 1 / 13) / 3}),
]


@pytest.mark.parametrize(("better", "ties", "exact"), BY_HAND)
def test_by_hand(better, ties, exact):
    values = metric_values(np.array([better]), np.array([ties]))[0]
    found = dict(zip(metric_names(), values, strict=True))
    for name, value in exact.items():
        assert found[name] == pytest.approx(value, rel=1e-14, abs=1e-15), name


def test_a_tie_is_the_mean_over_its_ranks():
    rng = np.random.default_rng(0)
    better, ties = rng.integers(0, 40, 200), rng.integers(0, 30, 200)
    found = metric_values(better, ties)
    for row, (b, t) in enumerate(zip(better, ties, strict=True)):
        ranks = np.arange(b, b + t + 1)
        alone = metric_values(ranks, np.zeros_like(ranks))
        np.testing.assert_allclose(found[row], alone.mean(axis=0), rtol=1e-12, atol=1e-15)


def test_untied_values_are_exact():
    values = metric_values(np.array([9, 3000]), np.array([0, 0]))
    found = [dict(zip(metric_names(), row, strict=True)) for row in values]
    assert found[0]["NDCG@10"] == 1 / np.log2(11.0)
    assert found[1]["MRR"] == 1 / 3001


def test_no_users():
    nobody = np.zeros(0, np.int64)
    assert metric_values(nobody, nobody).shape == (0, 13)


@pytest.mark.parametrize("cutoffs", [(), (0, 1), (5, 5), (10, 1)])
def test_cutoffs_are_checked(cutoffs):
    with pytest.raises(MfganError, match="evaluate: cutoffs must be positive and rising, got"):
        check_cutoffs(cutoffs)


@pytest.fixture(scope="module")
def untied():
    """Scores of 60 candidates for 80 users, no two the same, and the place of each target."""
    rng = np.random.default_rng(3)
    scores = rng.permuted(np.tile(np.arange(60.0), (80, 1)), axis=1)
    targets = rng.integers(0, 60, 80)
    goal = scores[np.arange(80), targets][:, None]
    better, ties = (scores > goal).sum(axis=1), (scores == goal).sum(axis=1) - 1
    return scores, targets, metric_values(better, ties)


def _as_runs(scores, targets):
    judged = {f"u{u:03}": {f"i{t}": 1} for u, t in enumerate(targets)}
    run = {
        f"u{u:03}": {f"i{i}": float(s) for i, s in enumerate(row)} for u, row in enumerate(scores)
    }
    return judged, run


def test_agrees_with_pytrec_eval(untied):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    scores, targets, values = untied
    judged, run = _as_runs(scores, targets)
    names = {"HR@{}": "recall_{}", "NDCG@{}": "ndcg_cut_{}"}
    measures = {"recall.1,5,10,20", "ndcg_cut.1,5,10,20", "recip_rank"}
    other = pytrec_eval.RelevanceEvaluator(judged, measures).evaluate(run)
    for ours, theirs in names.items():
        for k in (1, 5, 10, 20):
            column = values[:, metric_names().index(ours.format(k))]
            expected = [other[f"u{u:03}"][theirs.format(k)] for u in range(len(targets))]
            np.testing.assert_allclose(column, expected, rtol=1e-12, atol=1e-12)
    expected = [other[f"u{u:03}"]["recip_rank"] for u in range(len(targets))]
    np.testing.assert_allclose(values[:, -1], expected, rtol=1e-12)


# ranx compiles with numba on first use and warns about numba's and its own matters.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_agrees_with_ranx(untied):
    ranx = pytest.importorskip("ranx")
    scores, targets, values = untied
    judged, run = _as_runs(scores, targets)
    theirs = [f"{m}@{k}" for m in ("recall", "ndcg", "mrr") for k in (1, 5, 10, 20)] + ["mrr"]
    other = ranx.evaluate(ranx.Qrels(judged), ranx.Run(run), theirs, return_mean=False)
    for column, name in enumerate(theirs):
        np.testing.assert_allclose(values[:, column], other[name], rtol=1e-6, atol=1e-9)
