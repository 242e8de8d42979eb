"""One block of the discriminators' towers, with a factor axis."""

from types import SimpleNamespace
from typing import cast

import torch
from torch import nn


class FactorBlock(nn.Module):
    """The weights of one block of every factor's tower, each stacked ``(num_towers, ...)``.

    There is one tower a factor, or one that all factors share.
    """

    def __init__(self, num_towers: int, hidden_dim: int, ff_dim: int) -> None:
        super().__init__()

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(num_towers, *shape))

        self.query_weight = weight(hidden_dim, hidden_dim)
        self.query_bias = weight(hidden_dim)
        self.key_weight = weight(hidden_dim, hidden_dim)
        self.value_weight = weight(hidden_dim, hidden_dim)
        self.out_weight = weight(hidden_dim, hidden_dim)
        self.out_bias = weight(hidden_dim)
        self.ff1_weight = weight(ff_dim, hidden_dim)
        self.ff1_bias = weight(ff_dim)
        self.ff2_weight = weight(hidden_dim, ff_dim)
        self.ff2_bias = weight(hidden_dim)

    def of_every_factor(self, num_factors: int) -> "FactorBlock":
        """The weights as ``(num_factors, ...)`` each, a shared tower's repeated."""
        if len(self.query_bias) == num_factors:
            return self
        repeated = {
            name: p.expand(num_factors, *p.shape[1:]) for name, p in self.named_parameters()
        }
        return cast("FactorBlock", SimpleNamespace(**repeated))
