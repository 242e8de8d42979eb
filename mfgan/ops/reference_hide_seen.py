"""``hide_seen`` in plain PyTorch: the contract, and what serves where there is no kernel."""

import torch
from torch import Tensor

from mfgan.ops import checks

_WHERE = "hide_seen"


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
    value: float,
) -> None:
    """See ``mfgan.ops.hide_seen``; nothing is read back from a GPU."""
    num_rows, num_items = scores.shape
    checks.session_bounds(_WHERE, cu_seqlens, items.shape[0])
    for name, tensor in (("kept", kept), ("items", items), ("earlier", earlier)):
        checks.below(_WHERE, name, tensor, num_items + 1)
    checks.below(_WHERE, "tokens", tokens, items.shape[0])
    if num_rows == 0:
        return
    # A column before the first takes what item 0 writes.
    open_scores = torch.cat([scores.new_zeros(num_rows, 1), scores], 1)
    before = open_scores.gather(1, kept.unsqueeze(1))
    num_sessions = cu_seqlens.shape[0] - 1
    session = torch.searchsorted(cu_seqlens, tokens.to(cu_seqlens.dtype), right=True) - 1
    if earlier.shape[0]:
        owner = torch.repeat_interleave(
            torch.arange(num_sessions, device=scores.device),
            earlier_offsets.diff(),
            output_size=earlier.shape[0],
        )
        had = torch.zeros(num_sessions, num_items + 1, dtype=torch.bool, device=scores.device)
        had[owner, earlier] = True
        open_scores.masked_fill_(had[session], value)
    # Places after the row's token stand for the token itself: that one is hidden anyway.
    steps = torch.arange(max_seqlen, device=scores.device)
    places = (cu_seqlens[session].long().unsqueeze(1) + steps).minimum(tokens.unsqueeze(1))
    open_scores.scatter_(1, items[places], value)
    open_scores.scatter_(1, kept.unsqueeze(1), before)
    scores.copy_(open_scores[:, 1:])
