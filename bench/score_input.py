"""Inputs of the candidate scores that are compared, and the scores by the operator."""

import torch
from torch import Tensor

from bench.plain_score import Tower
from mfgan.ops import factor_score


def draw_items(num_items: int, *shape: int, seed: int) -> Tensor:
    """Item numbers from 1 on, as skewed as in a log: the square of a uniform draw."""
    generator = torch.Generator().manual_seed(seed)
    return (1 + (num_items - 1) * torch.rand(*shape, generator=generator) ** 2).long()


def kernel_scores(
    tower: Tower,
    history: Tensor,
    candidates: Tensor,
    num_heads: int,
    dropout_p: float,
    rng: Tensor | None,
) -> Tensor:
    """What ``plain_score.shared_scores`` gives, by ``factor_score``; ``rng`` draws the dropout."""
    query, key, value, residual, place_key, place_value = tower.tables()
    total, length = history.numel(), history.shape[1]
    return factor_score(
        query,
        key,
        value,
        residual,
        place_key,
        place_value,
        tower.out_weight,
        tower.ff1_weight,
        tower.ff1_bias,
        tower.ff2_weight,
        tower.ff2_bias,
        tower.head_weight,
        tower.head_bias,
        history.flatten(),
        candidates.flatten(0, 1),
        torch.arange(total, device=history.device),
        torch.arange(0, total + 1, length, dtype=torch.int32, device=history.device),
        length,
        num_heads=num_heads,
        dropout_p=dropout_p,
        rng=rng,
    )
