"""Factor values dealt out anew among all items, to see what an explanation's claims are worth."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mfgan.models.factor_embedding import FactorEmbedding


def dealt_items(num_rows: int, rng: np.random.Generator) -> np.ndarray:
    """``(num_rows,)`` int64: whose value each item gets, row 0 its own."""
    return np.append(0, 1 + rng.permutation(num_rows - 1))


class DealtAnew(nn.Module):
    """A ``FactorEmbedding`` in which every item has some item's value of each factor.

    Args:
        embedding: What it was.
        owners: ``(num_factors, num_rows)`` int64, whose values each item has.
    """

    def __init__(self, embedding: "FactorEmbedding", owners: np.ndarray) -> None:
        super().__init__()
        self._embedding, self.num_rows = embedding, embedding.num_rows
        self._owners = torch.from_numpy(owners)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """As ``FactorEmbedding.forward``."""
        vectors = self._embedding()
        owners = self._owners if rows is None else self._owners[:, rows]
        return torch.stack([own[places] for own, places in zip(vectors, owners, strict=True)])
