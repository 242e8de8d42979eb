"""The definition of ``factor_score`` in plain PyTorch: what the kernels are tested against."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mfgan.ops.reference import keep_factor

NORM_EPS = 1e-5


def factor_score(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    residual: Tensor,
    position_key: Tensor,
    position_value: Tensor,
    out_weight: Tensor,
    ff1_weight: Tensor,
    ff1_bias: Tensor,
    ff2_weight: Tensor,
    ff2_bias: Tensor,
    head_weight: Tensor,
    head_bias: Tensor,
    history_rows: Tensor,
    candidate_rows: Tensor,
    positions: Tensor,
    cu_seqlens: Tensor,
    max_history: int,
    *,
    num_heads: int,
    dropout_p: float = 0.0,
    rng: Tensor | None = None,
    site: int = 0,
) -> Tensor:
    """Gather keys and values of every scored position, attend, feed forward: ``(P, C, F)``.

    The arguments are those of :func:`mfgan.ops.factor_score`. Holds ``(F, P, max_history, D)``.
    """
    num_factors, hidden_dim = query.shape[0], query.shape[-1]
    num_positions, num_candidates = candidate_rows.shape
    # Index of (position, candidate, factor) in the output, which draws the dropout bits.
    place = torch.arange(candidate_rows.numel() * num_factors, device=query.device)
    place = place.view(num_positions, num_candidates, num_factors).permute(2, 0, 1)

    def dropout(x: Tensor, row: Tensor, offset: int) -> Tensor:
        if rng is None or dropout_p == 0:
            return x
        columns = torch.arange(x.shape[-1], device=x.device)
        return x * keep_factor(rng, site + offset, row.unsqueeze(-1), columns, dropout_p, x.dtype)

    def heads(x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], num_heads, hidden_dim // num_heads)

    rows, seen = history_windows(history_rows, positions, cu_seqlens, max_history)
    distances = slice(1, max_history + 1)
    own_query = heads(query[:, candidate_rows])
    own_key = heads(key[:, candidate_rows] + position_key[:, None, None, 0])
    own_value = heads(value[:, candidate_rows] + position_value[:, None, None, 0])
    past_key = heads(key[:, rows] + position_key[:, None, distances])
    past_value = heads(value[:, rows] + position_value[:, None, distances])

    own_logit = (own_query * own_key).sum(-1, keepdim=True)
    past_logit = torch.einsum("fpche,fplhe->fpchl", own_query, past_key)
    past_logit = past_logit.masked_fill(~seen[:, None, None], -math.inf)
    logits = torch.cat([own_logit, past_logit], -1) / math.sqrt(hidden_dim // num_heads)
    head_row = place.unsqueeze(-1) * num_heads + torch.arange(num_heads, device=query.device)
    weights = dropout(logits.softmax(-1), head_row, 0)
    attended = torch.einsum("fpchl,fplhe->fpche", weights[..., 1:], past_value)
    attended = (attended + weights[..., :1] * own_value).flatten(-2)

    projected = torch.einsum("fpcd,fed->fpce", attended, out_weight)
    hidden = residual[:, candidate_rows] + dropout(projected, place, 1)
    normed = F.layer_norm(hidden, (hidden_dim,), eps=NORM_EPS)
    inner = torch.einsum("fpcd,fwd->fpcw", normed, ff1_weight) + ff1_bias[:, None, None]
    outer = torch.einsum("fpcw,fdw->fpcd", inner.relu(), ff2_weight) + ff2_bias[:, None, None]
    hidden = hidden + dropout(outer, place, 2)
    scores = torch.einsum("fpcd,fd->fpc", hidden, head_weight) + head_bias[:, None, None]
    return scores.permute(1, 2, 0).contiguous()


def history_windows(
    history_rows: Tensor, positions: Tensor, cu_seqlens: Tensor, max_history: int
) -> tuple[Tensor, Tensor]:
    """The table rows of the last ``max_history`` tokens of every scored position, newest first.

    Returns:
        ``(P, max_history)`` rows, 0 where a session has fewer tokens, and the mask of real ones.
    """
    back = torch.arange(max_history, device=positions.device)
    tokens = positions.unsqueeze(-1) - back
    session = torch.searchsorted(cu_seqlens, positions.to(cu_seqlens.dtype), right=True) - 1
    seen = tokens >= cu_seqlens[session].unsqueeze(-1)
    if history_rows.numel() == 0:
        return tokens, seen
    return history_rows[tokens.clamp(min=0)].masked_fill(~seen, 0), seen
