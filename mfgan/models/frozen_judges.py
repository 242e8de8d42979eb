"""Discriminators that do not learn for a while: what their items give is made once."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mfgan.models.discriminator import Discriminators
from mfgan.models.factor_towers import ItemTables

if TYPE_CHECKING:
    from mfgan.data.batch import JaggedBatch


class FrozenJudges:
    """Asks discriminators without dropout and without gradients.

    Tables of all items are kept from the first call on, where they are not too large, so that a
    judgement costs what its history and candidates cost.

    Args:
        discriminators: Their weights stay as they are, or `forget` is called.
    """

    def __init__(self, discriminators: Discriminators) -> None:
        self.discriminators = discriminators
        self._tables: ItemTables | None = None

    def forget(self) -> None:
        """To be called where weights have changed or will: nothing made of them is kept."""
        self._tables = None

    @torch.no_grad()
    def __call__(self, batch: "JaggedBatch", positions: Tensor, candidates: Tensor) -> Tensor:
        """As `Discriminators.forward`, ``(num_positions, num_candidates, num_factors)``."""
        if self._tables is None:
            self._tables = self.discriminators.item_tables()
        logits: Tensor = self.discriminators(batch, positions, candidates, tables=self._tables)
        return logits
