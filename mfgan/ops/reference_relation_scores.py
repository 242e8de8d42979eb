"""Relation scores of all items in plain PyTorch: the contract, and what serves without a kernel."""

import torch
from torch import Tensor

from mfgan.ops import checks
from mfgan.ops.reference_relation_sums import (
    SPANS,
    entry_owners,
    histories,
    session_starts,
    spans_of,
)

_ADD, _PROJECT = "add_relation_scores", "relation_projections"


def add_relation_scores(
    scores: Tensor,
    offsets: Tensor,
    columns: Tensor,
    values: Tensor,
    items: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    positions: Tensor,
    weight: Tensor,
    *,
    max_history: int,
) -> None:
    """See ``mfgan.ops.add_relation_scores``; nothing is read back from a GPU."""
    reach = min(max_history, max_seqlen)
    _check(_ADD, offsets, items, cu_seqlens, positions)
    if not values.shape[0] or not len(positions):
        return
    steps = torch.arange(reach, device=items.device)
    had = histories(items, session_starts(cu_seqlens, positions), positions, steps)
    by_item = scores.new_zeros(len(positions), offsets.shape[0] - 1)
    by_item.scatter_add_(1, had, weight.to(scores.dtype)[spans_of(steps)].expand(had.shape))
    columns_first = _sparse(columns, entry_owners(offsets, columns), values, by_item)
    scores += torch.sparse.mm(columns_first, by_item.T)[1:].T


def relation_projections(
    numbers: Tensor,
    offsets: Tensor,
    columns: Tensor,
    values: Tensor,
    items: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    positions: Tensor,
    *,
    max_history: int,
) -> Tensor:
    """See ``mfgan.ops.relation_projections``; nothing is read back from a GPU."""
    reach = min(max_history, max_seqlen)
    _check(_PROJECT, offsets, items, cu_seqlens, positions)
    found = numbers.new_zeros(len(positions), len(SPANS))
    if not values.shape[0] or not len(positions):
        return found.float()
    whole = torch.cat([numbers.new_zeros(len(numbers), 1), numbers], 1)
    rows_first = _sparse(entry_owners(offsets, columns), columns, values, whole)
    by_item = torch.sparse.mm(rows_first, whole.T).T
    steps = torch.arange(reach, device=items.device)
    had = histories(items, session_starts(cu_seqlens, positions), positions, steps)
    spans = spans_of(steps).expand(had.shape)
    return found.scatter_add_(1, spans, by_item.gather(1, had)).float()


def _check(
    where: str, offsets: Tensor, items: Tensor, cu_seqlens: Tensor, positions: Tensor
) -> None:
    checks.session_bounds(where, cu_seqlens, items.shape[0])
    checks.below(where, "positions", positions, items.shape[0])
    checks.below(where, "items", items, offsets.shape[0] - 1)


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, like: Tensor) -> Tensor:
    """A square of as many rows as ``like`` has columns, of its dtype."""
    size = (like.shape[1], like.shape[1])
    indices = torch.stack([rows.long(), columns.long()])
    return torch.sparse_coo_tensor(indices, values.to(like.dtype), size, check_invariants=False)
