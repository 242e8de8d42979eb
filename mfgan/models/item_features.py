"""Items as a user model sees them: one-hot, learned embeddings, exposure, factors."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfgan.data.factors import Factor
from mfgan.errors import MfganError

ONE_HOT, EMBEDDING, EXPOSURE = "one-hot", "embedding", "exposure"


class ItemFeatures(nn.Module):
    """The feature vector of each item, its one-hot part never written out unless asked for.

    Args:
        names: Of ``one-hot`` (the item itself), ``embedding`` (learned), ``exposure`` (log of how
            often training users were shown it), and names of factors.
        num_items: Items of the catalogue; item 0 has the zero vector in all that is not learned.
        shown: ``(num_items + 1,)`` displays of each item among the training users.
        factors: Those that ``names`` names: dense ones as they are, others as a learned embedding
            of their values, the mean of a bag.
        embedding_dim: Width of what is learned.

    Raises:
        MfganError: No feature is named, or one is not there.
    """

    dense: Tensor

    def __init__(
        self,
        names: Sequence[str],
        num_items: int,
        *,
        shown: np.ndarray,
        factors: Sequence[Factor] = (),
        embedding_dim: int = 16,
    ) -> None:
        super().__init__()
        by_name = {factor.name: factor for factor in factors}
        unknown = [name for name in names if name not in (ONE_HOT, EMBEDDING, EXPOSURE, *by_name)]
        if unknown or not names:
            raise MfganError(
                f"features: must be one-hot, embedding, exposure or factors, got {names}"
            )
        self.num_items = num_items
        self.one_hot = ONE_HOT in names
        self.embedding = (
            nn.Embedding(num_items + 1, embedding_dim, padding_idx=0)
            if EMBEDDING in names
            else None
        )
        dense = [np.zeros((num_items + 1, 0), np.float32)]
        if EXPOSURE in names:
            dense.append(np.log1p(shown).astype(np.float32)[:, None])
        dense += [f.values for f in factors if f.kind == "dense"]
        self.register_buffer("dense", torch.from_numpy(np.concatenate(dense, axis=1)))
        self.bags = nn.ModuleList(
            _FactorBag(factor, embedding_dim) for factor in factors if factor.kind != "dense"
        )
        learned = len(self.bags) + (self.embedding is not None)
        self.narrow_dim = self.dense.shape[1] + learned * embedding_dim
        self.dim = self.narrow_dim + (num_items + 1 if self.one_hot else 0)

    def narrow(self, items: Tensor) -> Tensor:
        """All but the one-hot part, ``(..., narrow_dim)``."""
        parts = [self.dense[items]]
        if self.embedding is not None:
            parts.append(self.embedding(items))
        parts += [bag(items) for bag in self.bags]
        return torch.cat(parts, dim=-1)


class _FactorBag(nn.Module):
    """Learned embeddings of a factor's values, averaged over an item's bag."""

    values: Tensor
    offsets: Tensor

    def __init__(self, factor: Factor, dim: int) -> None:
        super().__init__()
        bounds = factor.offsets if factor.offsets is not None else np.arange(len(factor.values) + 1)
        self.register_buffer("values", torch.from_numpy(factor.values.astype(np.int64)))
        self.register_buffer("offsets", torch.from_numpy(np.asarray(bounds, np.int64)))
        self.table = nn.Embedding(factor.num_values, dim)

    def forward(self, items: Tensor) -> Tensor:
        means = F.embedding_bag(
            self.values, self.table.weight, self.offsets, mode="mean", include_last_offset=True
        )
        return means[items]


class FeatureLinear(nn.Module):
    """A linear map of an item's feature vector; its one-hot part is a row of a table.

    The table starts at zero: an item that training never showed has no one-hot part of its own.

    Args:
        features: What items are made of.
        out_dim: Width of the result.
        scale: Standard deviation of the weights at the start; None is ``1 / sqrt(narrow_dim)``.
    """

    def __init__(self, features: ItemFeatures, out_dim: int, *, scale: float | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(features.num_items + 1, out_dim) if features.one_hot else None
        if self.table is not None:
            nn.init.zeros_(self.table.weight)
        width = features.narrow_dim
        self.narrow = nn.Linear(width, out_dim, bias=False) if width else None
        if self.narrow is not None:
            nn.init.trunc_normal_(self.narrow.weight, std=scale or width**-0.5)

    def forward(self, features: ItemFeatures, items: Tensor) -> Tensor:
        """``(n, out_dim)`` for ``(n,)`` items.

        Args:
            features: The same as at construction.
            items: ``(n,)`` int64.
        """
        parts = []
        if self.table is not None:
            parts.append(self.table(items))
        if self.narrow is not None:
            parts.append(self.narrow(features.narrow(items)))
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
