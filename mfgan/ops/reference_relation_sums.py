"""``relation_sums`` in plain PyTorch: the contract, and what serves where there is no kernel."""

import torch
from torch import Tensor

from mfgan.ops import checks

_WHERE = "relation_sums"
_AT_ONCE = 1 << 22  # pairs of history and candidate that are looked up together
# The first distance of each sum.
SPANS = (0, 1, 2, 3, 4, 8, 16, 32, 64)


def relation_sums(
    offsets: Tensor,
    columns: Tensor,
    values: Tensor,
    items: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    positions: Tensor,
    candidates: Tensor,
    *,
    max_history: int,
) -> Tensor:
    """See ``mfgan.ops.relation_sums``; nothing is read back from a GPU."""
    num_rows = offsets.shape[0] - 1
    checks.session_bounds(_WHERE, cu_seqlens, items.shape[0])
    checks.below(_WHERE, "positions", positions, items.shape[0])
    for name, tensor in (("items", items), ("candidates", candidates)):
        checks.below(_WHERE, name, tensor, num_rows)
    sums = values.new_zeros(*candidates.shape, len(SPANS))
    if not values.numel() or not candidates.numel():
        return sums
    keys = entry_keys(offsets, columns)
    first = session_starts(cu_seqlens, positions)
    reach = min(max_history, max_seqlen)
    for place, start in enumerate(SPANS):
        end = min(reach, SPANS[place + 1] if place + 1 < len(SPANS) else reach)
        most = max(1, _AT_ONCE // candidates.shape[1])
        for distance in range(start, end, most):
            steps = torch.arange(distance, min(end, distance + most), device=values.device)
            had = histories(items, first, positions, steps)
            at_once = max(1, _AT_ONCE // (len(steps) * candidates.shape[1]))
            for begin in range(0, len(positions), at_once):
                part = slice(begin, begin + at_once)
                sums[part, :, place] += entries(
                    keys, values, num_rows, had[part], candidates[part]
                ).sum(1)
    return sums


def session_starts(cu_seqlens: Tensor, positions: Tensor) -> Tensor:
    """``(num_positions,)`` int64, the first token of each position's session."""
    session = torch.searchsorted(cu_seqlens, positions.to(cu_seqlens.dtype), right=True) - 1
    return cu_seqlens[session].long()


def histories(items: Tensor, first: Tensor, positions: Tensor, steps: Tensor) -> Tensor:
    """``(num_positions, num_steps)`` items so many steps back, 0 before a session's first token."""
    places = positions.unsqueeze(1) - steps
    return items[places.clamp_min(0)].masked_fill(places < first.unsqueeze(1), 0)


def spans_of(steps: Tensor) -> Tensor:
    """``(num_steps,)`` int64, the span of each distance."""
    return torch.bucketize(steps, steps.new_tensor(SPANS), right=True) - 1


def entry_keys(offsets: Tensor, columns: Tensor) -> Tensor:
    """``(n,)`` int64, ``row * num_rows + column`` of every entry, ascending: what is looked up."""
    return entry_owners(offsets, columns) * (offsets.shape[0] - 1) + columns


def entry_owners(offsets: Tensor, columns: Tensor) -> Tensor:
    """``(n,)`` int64, the row of every entry."""
    rows = torch.arange(offsets.shape[0] - 1, device=columns.device)
    return rows.repeat_interleave(offsets.diff(), output_size=columns.shape[0])


def entries(keys: Tensor, values: Tensor, num_rows: int, had: Tensor, candidates: Tensor) -> Tensor:
    """Entries of the relation.

    Args:
        keys: ``(n,)`` as ``entry_keys`` gives them, at least one.
        values: ``(n,)`` float32.
        num_rows: Of the relation.
        had: ``(m, num_had)`` int64 item_idx, the rows.
        candidates: ``(m, num_candidates)`` int64 item_idx, the columns.

    Returns:
        ``(m, num_had, num_candidates)``, 0 for what is not there.
    """
    wanted = had.unsqueeze(2) * num_rows + candidates.unsqueeze(1)
    found = torch.searchsorted(keys, wanted).clamp_max(keys.shape[0] - 1)
    return values[found].masked_fill(keys[found] != wanted, 0.0)
