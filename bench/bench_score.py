"""Candidate scores of every factor against plain PyTorch: prefixes shared, and prefixes expanded.

All sides start from item vectors and weights and end with the gradients of both, so the per-item
tables of keys and values count on each side that has them.
"""

import pytest
import torch

from bench.plain_score import expanded_scores, make_tower, shared_scores
from bench.score_input import draw_items, kernel_scores

SESSIONS, LENGTH, NUM_ITEMS = 128, 50, 3417
NUM_FACTORS, DIM, NUM_HEADS, DROPOUT = 4, 50, 2, 0.25
RNG = torch.tensor([3, 4])


def inputs(num_candidates):
    tower = make_tower(NUM_FACTORS, NUM_ITEMS, DIM, LENGTH)
    history = draw_items(NUM_ITEMS, SESSIONS, LENGTH, seed=1)
    candidates = draw_items(NUM_ITEMS, SESSIONS, LENGTH, num_candidates, seed=2)
    return tower, history, candidates


def gradients(tower, scores):
    return torch.autograd.grad(scores.sum(), tower.leaves())


def expand_in_turn(tower, history, candidates, dropout_p=DROPOUT):
    """A model a factor, trained one after the other, as in the published code."""
    for factor in range(NUM_FACTORS):
        scores = expanded_scores(tower, factor, history, candidates, NUM_HEADS, dropout_p)
        gradients(tower, scores)


def test_all_sides_compute_the_same():
    tower, history, candidates = inputs(2)
    history, candidates = history[:3], candidates[:3]
    ours = kernel_scores(tower, history, candidates, NUM_HEADS, 0.0, None)
    shared = shared_scores(tower, history, candidates, NUM_HEADS, 0.0)
    expanded = [
        expanded_scores(tower, factor, history, candidates, NUM_HEADS, 0.0)
        for factor in range(NUM_FACTORS)
    ]
    torch.testing.assert_close(ours, shared, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours, torch.stack(expanded, -1), rtol=1e-4, atol=1e-4)
    for got, wanted in zip(gradients(tower, ours), gradients(tower, shared), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("num_candidates", [1, 11])
def test_train(compare, num_candidates):
    tower, history, candidates = inputs(num_candidates)

    def ours():
        gradients(tower, kernel_scores(tower, history, candidates, NUM_HEADS, DROPOUT, RNG))

    def rival():
        gradients(tower, shared_scores(tower, history, candidates, NUM_HEADS, DROPOUT))

    compare(f"score-train-{num_candidates}", ours, rival, repeats=15 if num_candidates == 1 else 7)


def test_naive(compare):
    tower, history, candidates = inputs(1)

    def ours():
        gradients(tower, kernel_scores(tower, history, candidates, NUM_HEADS, DROPOUT, RNG))

    compare("score-naive", ours, lambda: expand_in_turn(tower, history, candidates), repeats=7)
