"""What sessions have had, hidden from a distribution over items."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mfgan.data.batch import JaggedBatch
from mfgan.ops import hide_seen

if TYPE_CHECKING:
    from mfgan.models.generator import Generator


@dataclass(frozen=True)
class Seen:
    """What the sessions of some rows have had, each up to the row's token.

    Args:
        batch: The sessions.
        tokens: ``(num_rows,)`` int64, each row's place in the batch.
        earlier: ``(n,)`` int64, what the sessions had before their first token.
        earlier_offsets: ``(num_sessions + 1,)`` int64, bounds of that.
    """

    batch: JaggedBatch
    tokens: Tensor
    earlier: Tensor
    earlier_offsets: Tensor

    @classmethod
    def of(cls, batch: JaggedBatch, tokens: Tensor | None = None) -> "Seen":
        """Of the given tokens, or of all in their order."""
        items = batch.items
        if tokens is None:
            tokens = torch.arange(batch.total_tokens, device=items.device)
        if batch.earlier is None or batch.earlier_offsets is None:
            return cls(batch, tokens, items[:0], items.new_zeros(batch.num_sessions + 1))
        return cls(batch, tokens, batch.earlier, batch.earlier_offsets)

    @property
    def most(self) -> int:
        """No row has had more distinct items than this."""
        return self.batch.max_seqlen + self.earlier.shape[0]

    def hide(
        self,
        scores: Tensor,
        rows: slice | Tensor,
        *,
        kept: Tensor | None,
        value: float = -torch.inf,
    ) -> None:
        """Overwrite scores of what was had.

        Args:
            scores: ``(n, num_items)``, changed in place; column ``c`` is item ``c + 1``.
            rows: Which of the rows these are.
            kept: ``(n,)`` int64 items that keep their scores, 0 for none; None for none at all.
            value: Goes in place of the scores.
        """
        tokens = self.tokens[rows]
        hide_seen(
            scores,
            tokens,
            torch.zeros_like(tokens) if kept is None else kept,
            self.batch.items,
            self.batch.cu_seqlens,
            self.batch.max_seqlen,
            self.earlier,
            self.earlier_offsets,
            value=value,
        )


def seen_by(
    generator: "Generator", batch: JaggedBatch, tokens: Tensor | None = None
) -> Seen | None:
    """What is to be hidden from the generator's distribution after some tokens, if anything is."""
    return Seen.of(batch, tokens) if generator.config.unseen_only else None
