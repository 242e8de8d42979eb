"""Scores without the items that a session has had: entry point and shapes."""

import torch
from torch import Tensor

from mfgan.ops import checks, library, reference_hide_seen

_WHERE = "hide_seen"
_DEVICES = library.devices(_WHERE)


def hide_seen(
    scores: Tensor,
    tokens: Tensor,
    kept: Tensor,
    items: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    earlier: Tensor,
    earlier_offsets: Tensor,
    *,
    value: float = -torch.inf,
) -> None:
    """Overwrite the scores of what the session of each row has had up to the row's token.

    Args:
        scores: ``(num_rows, num_items)`` float32, float64, bfloat16 or float16, changed in place;
            column ``c`` is item ``c + 1``. It has no gradient here.
        tokens: ``(num_rows,)`` int64, each row's place among ``items``.
        kept: ``(num_rows,)`` int64, an item that keeps its score though it was had, such as the
            true next one; 0 for none.
        items: ``(total_tokens,)`` int64, sessions laid end to end; item 0 hides nothing.
        cu_seqlens: ``(num_sessions + 1,)`` int32 bounds of the sessions.
        max_seqlen: Length of the longest session.
        earlier: ``(n,)`` int64, what the sessions had before their first token, laid end to end.
        earlier_offsets: ``(num_sessions + 1,)`` int64 bounds of that.
        value: Goes in place of the scores.

    Raises:
        ValueError: A shape, a device, a bound or an item is wrong.
        TypeError: A dtype is wrong.
    """
    if scores.dim() != 2:
        raise ValueError(
            f"{_WHERE}: scores must be (num_rows, num_items), got {checks.shape(scores)}"
        )
    checks.floating(_WHERE, "scores", scores)
    numbers = {"tokens": tokens, "kept": kept, "items": items}
    numbers |= {"earlier": earlier, "earlier_offsets": earlier_offsets}
    for name, tensor in numbers.items():
        checks.dtype(_WHERE, name, tensor, torch.int64)
        checks.device(_WHERE, name, tensor, scores)
    checks.dtype(_WHERE, "cu_seqlens", cu_seqlens, torch.int32)
    checks.device(_WHERE, "cu_seqlens", cu_seqlens, scores)
    for name, tensor, size in (
        ("tokens", tokens, scores.shape[0]),
        ("kept", kept, scores.shape[0]),
        ("earlier_offsets", earlier_offsets, cu_seqlens.shape[0]),
    ):
        if tensor.shape != (size,):
            raise ValueError(f"{_WHERE}: {name} must be ({size},), got {checks.shape(tensor)}")
    given = (tokens, kept, items, cu_seqlens)
    if scores.device.type in _DEVICES:
        op = torch.ops.mfgan.hide_seen.default
        op(scores, *given, earlier, earlier_offsets, value)
        return
    reference_hide_seen.hide_seen(scores, *given, max_seqlen, earlier, earlier_offsets, value=value)


def _fake(
    scores: Tensor,
    tokens: Tensor,
    kept: Tensor,
    items: Tensor,
    cu_seqlens: Tensor,
    earlier: Tensor,
    earlier_offsets: Tensor,
    value: float,
) -> None:
    return None


if _DEVICES:
    torch.library.register_fake("mfgan::hide_seen", _fake)
