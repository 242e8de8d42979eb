"""What is known of an item besides its id: one vector for each of its factors."""

import zlib
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfgan.errors import MfganError, nearest
from mfgan.models import fixed

if TYPE_CHECKING:
    from mfgan.data.factors import Factor


class FactorEmbedding(nn.Module):
    """Vectors of the items' factor values, all factors in one tensor.

    The values of every categorical and multi factor are rows of one table: an item's vector is the
    mean over its values, of which a categorical factor has exactly one. A dense factor's vector
    goes through a linear map. A value that is unknown has a row, and is learned, like any other.

    Args:
        factors: The factors, in the order of the factor axis.
        hidden_dim: Width of the vectors.
        init_scale: Standard deviation of the table's first values.

    Attributes:
        table: ``(total_values, hidden_dim)``, the factors' values end to end.
        dense_weight: ``(total_dense_width, hidden_dim)``, the dense factors' maps end to end.
    """

    bag_values: Tensor
    bag_offsets: Tensor
    dense_values: Tensor

    def __init__(self, factors: "Sequence[Factor]", hidden_dim: int, *, init_scale: float) -> None:
        super().__init__()
        tabled = [factor for factor in factors if factor.kind != "dense"]
        dense = [factor for factor in factors if factor.kind == "dense"]
        self.num_rows = _num_rows(factors[0]) if factors else 0
        self._num_tabled = len(tabled)
        self._value_bounds = [0, *accumulate(factor.num_values for factor in tabled)]
        self._dense_bounds = [0, *accumulate(factor.num_values for factor in dense)]
        order = [factor.name for factor in (*tabled, *dense)]
        self._order = [order.index(factor.name) for factor in factors]
        values, offsets = _bags(tabled, self._value_bounds)
        self.register_buffer("bag_values", values, persistent=False)
        self.register_buffer("bag_offsets", offsets, persistent=False)
        self.register_buffer("dense_values", _stacked_dense(dense), persistent=False)
        self.table = nn.Parameter(torch.empty(self._value_bounds[-1], hidden_dim))
        self.dense_weight = nn.Parameter(torch.empty(self._dense_bounds[-1], hidden_dim))
        self._init_scale = init_scale

    def reset_parameters(self, rngs: Sequence[torch.Generator]) -> None:
        """Draw the first values, dense vectors about as large as the table's rows.

        Args:
            rngs: One for each factor, so that its first values do not depend on the others.
        """
        with torch.no_grad():
            for factor, rng in enumerate(rngs):
                rows = self.slices(factor)
                self.table[rows["table"]].normal_(0.0, self._init_scale, generator=rng)
                dense = rows["dense_weight"]
                lengths = self.dense_values[:, dense].norm(dim=1)
                typical = float(lengths.sum() / (lengths > 0).sum().clamp(min=1)) or 1.0
                scale = self._init_scale / typical
                self.dense_weight[dense].normal_(0.0, scale, generator=rng)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """The vectors of some items, or of the whole catalogue.

        Args:
            rows: ``(num_rows,)`` int64 item_idx; None for every item, 0 included.

        Returns:
            ``(num_factors, num_rows, hidden_dim)``.
        """
        if rows is not None and fixed.fixed_sizes(self.table.device):
            # How many values the rows have is not known without asking; all items' are.
            every: Tensor = self(None)
            return every[:, rows]
        parts = []
        if self._num_tabled:
            values, offsets = self._bags_of(rows)
            vectors = F.embedding_bag(
                values, self.table, offsets, mode="mean", include_last_offset=True
            )
            parts.append(vectors.view(self._num_tabled, -1, self.table.size(1)))
        if len(self._dense_bounds) > 1:
            dense = self.dense_values if rows is None else self.dense_values[rows]
            dense = dense.to(self.dense_weight.dtype)
            maps = zip(self._dense_bounds, self._dense_bounds[1:], strict=False)
            parts += [
                (dense[:, low:high] @ self.dense_weight[low:high]).unsqueeze(0)
                for low, high in maps
            ]
        together = parts[0] if len(parts) == 1 else torch.cat(parts)
        in_order = self._order == sorted(self._order)
        return together if in_order else together[self._order]

    def slices(self, factor: int) -> dict[str, slice]:
        """Which rows of each parameter belong to one factor, by the parameter's name."""
        place, none = self._order[factor], slice(0, 0)
        if place >= self._num_tabled:
            place -= self._num_tabled
            rows = slice(self._dense_bounds[place], self._dense_bounds[place + 1])
            return {"table": none, "dense_weight": rows}
        rows = slice(self._value_bounds[place], self._value_bounds[place + 1])
        return {"table": rows, "dense_weight": none}

    def _bags_of(self, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        if rows is None:
            return self.bag_values, self.bag_offsets
        first = torch.arange(self._num_tabled, device=rows.device) * self.num_rows
        bags = (first.unsqueeze(1) + rows).flatten()
        starts = self.bag_offsets[bags]
        lengths = self.bag_offsets[bags + 1] - starts
        offsets = F.pad(lengths.cumsum(0), (1, 0))
        within = torch.arange(int(offsets[-1]), device=rows.device)
        return self.bag_values[within + (starts - offsets[:-1]).repeat_interleave(lengths)], offsets


def named_factors(where: str, names: Sequence[str], factors: "Sequence[Factor]") -> "list[Factor]":
    """The factors of these names, in this order.

    Raises:
        MfganError: A name that is not among ``factors``; ``where`` begins the message.
    """
    by_name = {factor.name: factor for factor in factors}
    for name in names:
        if name not in by_name:
            raise MfganError(
                f"{where}: factor must be one of {', '.join(by_name)}, got {name!r}"
                f"{nearest(name, list(by_name))}"
            )
    return [by_name[name] for name in names]


def factor_rngs(names: Sequence[str], seed: int) -> list[torch.Generator]:
    """One for each factor, which depends on the factor's name and the seed alone."""
    return [
        torch.Generator().manual_seed((seed << 32 | zlib.crc32(name.encode())) % 2**63)
        for name in names
    ]


def _num_rows(factor: "Factor") -> int:
    return len(factor.values) if factor.offsets is None else len(factor.offsets) - 1


def _bags(factors: "Sequence[Factor]", bounds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The values of every (factor, item), end to end, as rows of the common table."""
    values: list[np.ndarray] = [np.zeros(0, np.int64)]
    lengths: list[np.ndarray] = [np.zeros(0, np.int64)]
    for factor, bound in zip(factors, bounds, strict=False):
        values.append(np.asarray(factor.values, np.int64) + bound)
        if factor.offsets is None:
            lengths.append(np.ones(len(factor.values), np.int64))
        else:
            lengths.append(np.diff(np.asarray(factor.offsets, np.int64)))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return torch.from_numpy(np.concatenate(values)), torch.from_numpy(offsets)


def _stacked_dense(factors: "Sequence[Factor]") -> Tensor:
    if not factors:
        return torch.zeros(0, 0)
    stacked = np.concatenate([np.asarray(factor.values, np.float32) for factor in factors], axis=1)
    return torch.from_numpy(np.ascontiguousarray(stacked))
