"""The part of the generator's logits that relations of items have."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mfgan.models.relation_tables import RelationTables
from mfgan.ops import add_relation_scores, relation_projections

if TYPE_CHECKING:
    from mfgan.data.batch import JaggedBatch


class RelationTerm(RelationTables):
    """Adds ``sum_R sum_d v_R(d) R[s_d, i]`` to the logit of each item ``i``.

    ``v`` is ``scale`` times the parameter: a step of Adam moves each coordinate of a hidden state
    by about as much, and a logit is a sum of ``scale`` of them, so that a relation's word changes
    as fast as the vectors' does. Zero at first, when nothing is counted.

    Args:
        names: The relations.
        num_items: Items of the catalogue.
        max_history: History tokens that are looked back on.
        scale: The width of hidden states.
    """

    def __init__(self, names: tuple[str, ...], num_items: int, max_history: int, scale: int):
        super().__init__(names, num_items, max_history)
        self.scale = scale

    def forget(self) -> None:
        """Count nothing and say nothing, as at first."""
        with torch.no_grad():
            self.weight.zero_()
        self.take({name: self.no_table() for name in self.names})

    @property
    def weights(self) -> Tensor:
        """``(num_relations, 9)``, ``v``."""
        return self.weight * self.scale

    def at(self, batch: "JaggedBatch", positions: Tensor) -> "RelationScores":
        """What histories say for items, each up to and including a token of the batch."""
        return RelationScores(self, batch, positions)


@dataclass(frozen=True)
class RelationScores:
    """What the histories of some rows say for every item.

    Args:
        term: Counts and weights.
        batch: The sessions.
        tokens: ``(num_rows,)`` int64, each row's place in the batch.
    """

    term: RelationTerm
    batch: "JaggedBatch"
    tokens: Tensor

    def of(self, rows: slice) -> "RelationScores":
        """Those of some of the rows."""
        return replace(self, tokens=self.tokens[rows])

    @torch.no_grad()
    def add_to(self, scores: Tensor, rows: slice) -> None:
        """Add them to logits.

        Args:
            scores: ``(n, num_items)``, changed in place; column ``c`` is item ``c + 1``.
            rows: Which of the rows these are.
        """
        for name, weight in zip(self.term.names, self.term.weights, strict=True):
            add_relation_scores(scores, *self._given(name, rows), weight, max_history=self._reach)

    @torch.no_grad()
    def weight_gradient(self, grad: Tensor, rows: slice) -> Tensor:
        """From the gradient of logits to that of the term's ``weight``.

        Args:
            grad: ``(n, num_items)``.
            rows: Which of the rows these are.

        Returns:
            ``(num_relations, 9)``.
        """
        found = [
            relation_projections(grad, *self._given(name, rows), max_history=self._reach).sum(0)
            for name in self.term.names
        ]
        return self.term.scale * torch.stack(found)

    def parts(self, items: Tensor) -> Tensor:
        """What each relation adds to the logits of some items.

        Args:
            items: ``(num_rows, k)`` int64 item_idx.

        Returns:
            ``(num_rows, k, num_relations)``.
        """
        return (self.term.sums(self.batch, self.tokens, items) * self.term.weights).sum(-1)

    def strongest(self, items: Tensor) -> Tensor:
        """Which item of the history adds most to the logit of each item, by relation.

        Args:
            items: ``(num_rows, k)`` int64 item_idx.

        Returns:
            ``(num_rows, k, num_relations)`` int64 item_idx, 0 where none does.
        """
        return self.term.strongest(self.batch, self.tokens, items)

    @property
    def _reach(self) -> int:
        return self.term.max_history

    def _given(
        self, name: str, rows: slice
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int, Tensor]:
        batch = self.batch
        sessions = (batch.items, batch.cu_seqlens, batch.max_seqlen, self.tokens[rows])
        return (*self.term.table(name), *sessions)
