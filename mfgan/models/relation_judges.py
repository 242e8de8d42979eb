"""Discriminators of relations: how well a candidate goes with what is in the history."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mfgan.models.relation_tables import RelationTables

if TYPE_CHECKING:
    from mfgan.data.batch import JaggedBatch


class RelationJudges(RelationTables):
    """For each relation the logit ``b + sum_d w(d) R[s_d, i]`` of a candidate ``i``.

    Args:
        names: The relations.
        num_items: Items of the catalogue.
        max_history: History tokens that are looked back on.
    """

    def __init__(self, names: Sequence[str], num_items: int, max_history: int) -> None:
        super().__init__(names, num_items, max_history)
        self.bias = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, batch: "JaggedBatch", positions: Tensor, candidates: Tensor) -> Tensor:
        """As `Discriminators.forward`, ``(num_positions, num_candidates, num_relations)``."""
        return (self.sums(batch, positions, candidates) * self.weight).sum(-1) + self.bias
