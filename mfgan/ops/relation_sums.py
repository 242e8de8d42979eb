"""What a history says for candidates by a sparse relation of items: entry point and shapes."""

import torch
from torch import Tensor

from mfgan.ops import checks, library, reference_relation_sums

_WHERE = "relation_sums"
_DEVICES = library.devices(_WHERE)

NUM_SPANS = len(reference_relation_sums.SPANS)


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
    """Sums of ``R[history item, candidate]`` over spans of distance from the end of the history.

    ``R`` is a sparse matrix by rows, as ``mfgan.data.relations.Relation`` has it; without gradient.

    Args:
        offsets: ``(num_items + 2,)`` int64 bounds of the rows.
        columns: ``(n,)`` int32, the columns of each row, ascending.
        values: ``(n,)`` float32.
        items: ``(total_tokens,)`` int64, sessions laid end to end.
        cu_seqlens: ``(num_sessions + 1,)`` int32 bounds of the sessions.
        max_seqlen: Length of the longest session.
        positions: ``(num_positions,)`` int64 token index; a history is the session's tokens up to
            and including it, the last one at distance 0.
        candidates: ``(num_positions, num_candidates)`` int64 item_idx.
        max_history: Tokens looked back on.

    Returns:
        ``(num_positions, num_candidates, 9)`` float32: distances 0, 1, 2, 3, 4-7, 8-15, 16-31,
        32-63 and all beyond.

    Raises:
        ValueError: A shape, a device, a bound or an item is wrong.
        TypeError: A dtype is wrong.
    """
    relation = (offsets, columns, values)
    check_relation(_WHERE, *relation, items, cu_seqlens, positions, max_history)
    checks.dtype(_WHERE, "candidates", candidates, torch.int64)
    checks.device(_WHERE, "candidates", candidates, values)
    if candidates.dim() != 2 or len(candidates) != len(positions):
        raise ValueError(
            f"{_WHERE}: candidates must be ({len(positions)}, num_candidates), "
            f"got {checks.shape(candidates)}"
        )
    if values.device.type in _DEVICES:
        op = torch.ops.mfgan.relation_sums.default
        asked = candidates.contiguous()
        found: Tensor = op(*relation, items, cu_seqlens, positions, asked, max_history)
        return found
    return reference_relation_sums.relation_sums(
        *relation, items, cu_seqlens, max_seqlen, positions, candidates, max_history=max_history
    )


def check_relation(
    where: str,
    offsets: Tensor,
    columns: Tensor,
    values: Tensor,
    items: Tensor,
    cu_seqlens: Tensor,
    positions: Tensor,
    max_history: int,
) -> None:
    """Complain, in the name of an operator, of a relation and histories that do not fit."""
    for name, tensor in (("offsets", offsets), ("items", items), ("positions", positions)):
        checks.dtype(where, name, tensor, torch.int64)
        checks.device(where, name, tensor, values)
    for name, tensor in (("columns", columns), ("cu_seqlens", cu_seqlens)):
        checks.dtype(where, name, tensor, torch.int32)
        checks.device(where, name, tensor, values)
    checks.dtype(where, "values", values, torch.float32)
    if values.shape != columns.shape:
        raise ValueError(
            f"{where}: values must be {checks.shape(columns)}, got {checks.shape(values)}"
        )
    if max_history < 1:
        raise ValueError(f"{where}: max_history must be 1 or more, got {max_history}")


def _fake(
    offsets: Tensor,
    columns: Tensor,
    values: Tensor,
    items: Tensor,
    cu_seqlens: Tensor,
    positions: Tensor,
    candidates: Tensor,
    max_history: int,
) -> Tensor:
    return values.new_empty(*candidates.shape, NUM_SPANS)


if _DEVICES:
    torch.library.register_fake("mfgan::relation_sums", _fake)
