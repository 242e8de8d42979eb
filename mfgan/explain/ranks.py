"""How far two orders of the same things agree."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation along the last dimension, equals sharing their mean rank.

    Args:
        a: ``(..., n)``.
        b: ``(..., n)``.

    Returns:
        ``(...)`` float64; 0 where all of one are equal: then it says nothing of the order.
    """
    a, b = _centred_ranks(a), _centred_ranks(b)
    scale = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return torch.where(scale > 0, (a * b).sum(-1) / scale.clamp_min(1e-30), 0.0)


def _centred_ranks(values: Tensor) -> Tensor:
    above = (values.unsqueeze(-1) - values.unsqueeze(-2)).sign()
    return above.double().sum(-1)


def mean_over(values: Tensor, there: Tensor) -> Floats:
    """``(num_sessions, ...)``: means over each session's items that are there."""
    weights = there.double() / there.sum(1, keepdim=True).clamp_min(1)
    mean: Floats = torch.einsum("nk,nk...->n...", weights, values.double()).numpy()
    return mean
