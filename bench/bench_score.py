"""Candidate scores of every factor against plain PyTorch: prefixes shared, and prefixes expanded.

All sides start from item vectors and weights and end with the gradients of both, so the per-item
tables of keys and values count on each side that has them.
"""

import pytest
import torch

from bench.plain_score import Tower, expanded_scores, make_tower, shared_scores
from mfgan.ops import factor_score

SESSIONS, LENGTH, NUM_ITEMS = 128, 50, 3417
NUM_FACTORS, DIM, NUM_HEADS, DROPOUT = 4, 50, 2, 0.25
RNG = torch.tensor([3, 4])


def draw_items(*shape, seed):
    """Item numbers as skewed as in a log: the square of a uniform draw."""
    generator = torch.Generator().manual_seed(seed)
    return (1 + (NUM_ITEMS - 1) * torch.rand(*shape, generator=generator) ** 2).long()


def kernel_scores(tower: Tower, history, candidates, dropout_p):
    query, key, value, residual, place_key, place_value = tower.tables()
    total, length = history.numel(), history.shape[1]
    return factor_score(
        *(query, key, value, residual, place_key, place_value, tower.out_weight),
        *(tower.ff1_weight, tower.ff1_bias, tower.ff2_weight, tower.ff2_bias),
        *(tower.head_weight, tower.head_bias, history.flatten(), candidates.flatten(0, 1)),
        torch.arange(total),
        torch.arange(0, total + 1, length, dtype=torch.int32),
        length,
        num_heads=NUM_HEADS,
        dropout_p=dropout_p,
        rng=RNG,
    )


def inputs(num_candidates):
    tower = make_tower(NUM_FACTORS, NUM_ITEMS, DIM, LENGTH)
    history = draw_items(SESSIONS, LENGTH, seed=1)
    return tower, history, draw_items(SESSIONS, LENGTH, num_candidates, seed=2)


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
    ours = kernel_scores(tower, history, candidates, 0.0)
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
        gradients(tower, kernel_scores(tower, history, candidates, DROPOUT))

    def rival():
        gradients(tower, shared_scores(tower, history, candidates, NUM_HEADS, DROPOUT))

    compare(f"score-train-{num_candidates}", ours, rival, repeats=15 if num_candidates == 1 else 7)


def test_naive(compare):
    tower, history, candidates = inputs(1)

    def ours():
        gradients(tower, kernel_scores(tower, history, candidates, DROPOUT))

    compare("score-naive", ours, lambda: expand_in_turn(tower, history, candidates), repeats=7)
