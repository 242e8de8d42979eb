"""What a history says for every item by a sparse relation: entry points and shapes."""

import torch
from torch import Tensor

from mfgan.ops import checks, library, reference_relation_scores
from mfgan.ops.relation_sums import NUM_SPANS, check_relation

_ADD, _PROJECT = "add_relation_scores", "relation_projections"
_DEVICES = library.devices(_ADD)


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
    """Add ``sum_d weight[span of d] R[s_d, i]`` to the scores of every item ``i``.

    ``s_d`` is the history's item at distance ``d`` from its end, ``R`` and the spans are those of
    ``relation_sums``; without gradient.

    Args:
        scores: ``(num_positions, num_items)`` float32 or float64, changed in place; column ``c`` is
            item ``c + 1``.
        offsets: ``(num_items + 2,)`` int64 bounds of the relation's rows.
        columns: ``(n,)`` int32, the columns of each row, ascending.
        values: ``(n,)`` float32.
        items: ``(total_tokens,)`` int64, sessions laid end to end.
        cu_seqlens: ``(num_sessions + 1,)`` int32 bounds of the sessions.
        max_seqlen: Length of the longest session.
        positions: ``(num_positions,)`` int64 token index; a history is the session's tokens up to
            and including it.
        weight: ``(9,)`` float32, of each span of distance.
        max_history: Tokens looked back on.

    Raises:
        ValueError: A shape, a device, a bound or an item is wrong.
        TypeError: A dtype is wrong.
    """
    relation = (offsets, columns, values)
    _check(_ADD, "scores", scores, relation, items, cu_seqlens, positions, max_history)
    checks.dtype(_ADD, "weight", weight, torch.float32)
    checks.device(_ADD, "weight", weight, scores)
    if weight.shape != (NUM_SPANS,):
        raise ValueError(f"{_ADD}: weight must be ({NUM_SPANS},), got {checks.shape(weight)}")
    if _has_kernel(scores):
        op = torch.ops.mfgan.add_relation_scores.default
        op(scores, *relation, items, cu_seqlens, positions, weight, max_history)
        return
    reference_relation_scores.add_relation_scores(
        scores, *relation, items, cu_seqlens, max_seqlen, positions, weight, max_history=max_history
    )


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
    """``sum_i numbers[i] sum_d R[s_d, i]`` of every position, over the ``d`` of each span.

    With a loss's gradient of the scores for ``numbers``, its sum over positions is the gradient of
    the ``weight`` of ``add_relation_scores``, whose arguments these are.

    Args:
        numbers: ``(num_positions, num_items)`` float32 or float64; column ``c`` is item ``c + 1``.
        offsets: As there.
        columns: As there.
        values: As there.
        items: As there.
        cu_seqlens: As there.
        max_seqlen: As there.
        positions: As there.
        max_history: As there.

    Returns:
        ``(num_positions, 9)`` float32.

    Raises:
        ValueError: A shape, a device, a bound or an item is wrong.
        TypeError: A dtype is wrong.
    """
    relation = (offsets, columns, values)
    _check(_PROJECT, "numbers", numbers, relation, items, cu_seqlens, positions, max_history)
    if _has_kernel(numbers):
        op = torch.ops.mfgan.relation_projections.default
        found: Tensor = op(numbers, *relation, items, cu_seqlens, positions, max_history)
        return found
    return reference_relation_scores.relation_projections(
        numbers, *relation, items, cu_seqlens, max_seqlen, positions, max_history=max_history
    )


def _has_kernel(rows: Tensor) -> bool:
    """Numbers of other widths, and rows that are not contiguous, take the definition."""
    contiguous = rows.shape[1] == 0 or rows.stride(1) == 1
    return rows.device.type in _DEVICES and rows.dtype == torch.float32 and contiguous


def _check(
    where: str,
    name: str,
    rows: Tensor,
    relation: tuple[Tensor, Tensor, Tensor],
    items: Tensor,
    cu_seqlens: Tensor,
    positions: Tensor,
    max_history: int,
) -> None:
    check_relation(where, *relation, items, cu_seqlens, positions, max_history)
    checks.floating(where, name, rows)
    checks.device(where, name, rows, relation[2])
    wanted = (len(positions), len(relation[0]) - 2)
    if rows.shape != wanted:
        raise ValueError(f"{where}: {name} must be {wanted}, got {checks.shape(rows)}")


def _fake_add(
    scores: Tensor,
    offsets: Tensor,
    columns: Tensor,
    values: Tensor,
    items: Tensor,
    cu_seqlens: Tensor,
    positions: Tensor,
    weight: Tensor,
    max_history: int,
) -> None:
    return None


def _fake_project(
    numbers: Tensor,
    offsets: Tensor,
    columns: Tensor,
    values: Tensor,
    items: Tensor,
    cu_seqlens: Tensor,
    positions: Tensor,
    max_history: int,
) -> Tensor:
    return values.new_empty(len(positions), NUM_SPANS)


if _DEVICES:
    torch.library.register_fake(f"mfgan::{_ADD}", _fake_add)
    torch.library.register_fake(f"mfgan::{_PROJECT}", _fake_project)
