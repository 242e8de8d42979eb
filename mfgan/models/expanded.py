"""Judgements with every (position, candidate) written out: for towers of more than one block.

Slow, and plain: each candidate's sequence is its history and the candidate itself, every token of
it attends to every other, and the last one is read out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mfgan.models.factor_block import FactorBlock
from mfgan.ops import dropout_residual, varlen_attention

_EPS = 1e-5
_TOKENS_AT_ONCE = 1 << 15
_SITES_PER_BLOCK = 4


def expanded_score(
    vectors: Tensor,
    distance: Tensor,
    blocks: Sequence[FactorBlock],
    head_weight: Tensor,
    head_bias: Tensor,
    history_rows: Tensor,
    candidate_rows: Tensor,
    positions: Tensor,
    lengths: Tensor,
    *,
    num_heads: int,
    dropout_p: float = 0.0,
    rng: Tensor | None = None,
    site: int = 0,
) -> Tensor:
    """Judge candidates, a sequence each.

    Args:
        vectors: ``(num_factors, num_rows, hidden_dim)`` of the items in play.
        distance: ``(num_factors, num_distances, hidden_dim)``; row 0 is the candidate's own.
        blocks: The towers' weights.
        head_weight: ``(num_factors, hidden_dim)``.
        head_bias: ``(num_factors,)``.
        history_rows: ``(total_tokens,)`` int64, row of each history token.
        candidate_rows: ``(num_positions, num_candidates)`` int64.
        positions: ``(num_positions,)`` int64, the last history token of each.
        lengths: ``(num_positions,)`` int64, history tokens of each.
        num_heads: Attention heads of a factor.
        dropout_p: On attention weights and both branches of a block.
        rng: ``(2,)`` int64 seed and step of the dropout; None for none.
        site: The first place of this call that draws.

    Returns:
        ``(num_positions, num_candidates, num_factors)`` logits.
    """
    num_candidates = candidate_rows.size(1)
    tokens = ((lengths + 1) * num_candidates).cumsum(0)
    parts: list[Tensor] = []
    start = 0
    # Each part is computed again in the backward pass: a whole batch written out may be thousands
    # of times as large as its sessions.
    while start < len(positions):
        spent = int(tokens[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(tokens, spent + _TOKENS_AT_ONCE)))
        part = slice(start, stop)
        rows, distances, cu_seqlens = _sequences(
            history_rows, candidate_rows[part], positions[part], lengths[part]
        )
        longest = int(lengths[part].max()) + 1
        logits = checkpoint(
            _judge,
            vectors,
            distance,
            blocks,
            (head_weight, head_bias),
            (rows, distances, cu_seqlens, longest),
            num_heads,
            dropout_p,
            rng,
            # Rows count from zero in each part: other places keep their masks apart.
            site + len(parts) * (_SITES_PER_BLOCK * len(blocks) + _SITES_PER_BLOCK),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        parts.append(logits.view(stop - start, num_candidates, -1))
        start = stop
    shape = (0, num_candidates, len(head_bias))
    return torch.cat(parts) if parts else vectors.new_zeros(shape)


def _sequences(
    history_rows: Tensor, candidate_rows: Tensor, positions: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Row and distance of every token, candidates last, and the sequences' bounds."""
    num_candidates = candidate_rows.size(1)
    sizes = (lengths + 1).repeat_interleave(num_candidates)
    bounds = F.pad(sizes.cumsum(0), (1, 0))
    owner = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
    distances = bounds[1:][owner] - 1 - torch.arange(len(owner), device=sizes.device)
    last = positions.repeat_interleave(num_candidates)[owner]
    history = history_rows[(last + 1 - distances).clamp(max=len(history_rows) - 1)]
    rows = torch.where(distances == 0, candidate_rows.flatten()[owner], history)
    return rows, distances, bounds.int()


def _judge(
    vectors: Tensor,
    distance: Tensor,
    blocks: Sequence[FactorBlock],
    head: tuple[Tensor, Tensor],
    sequences: tuple[Tensor, Tensor, Tensor, int],
    num_heads: int,
    dropout_p: float,
    rng: Tensor | None,
    site: int,
) -> Tensor:
    rows, distances, cu_seqlens, longest = sequences
    hidden = vectors[:, rows] + distance[:, distances]
    for depth, block in enumerate(blocks):
        # The first block takes the vectors as they are, as the shared tables do.
        entry = hidden if depth == 0 else _norm(hidden)
        query = torch.baddbmm(block.query_bias.unsqueeze(1), entry, block.query_weight.mT)
        mixed = varlen_attention(
            _split_heads(query, num_heads),
            _split_heads(entry @ block.key_weight.mT, num_heads),
            _split_heads(entry @ block.value_weight.mT, num_heads),
            cu_seqlens,
            longest,
            causal=False,
            dropout_p=dropout_p,
            rng=rng,
            site=site,
        )
        mixed = mixed.reshape(len(rows), len(head[1]), -1).transpose(0, 1)
        hidden = hidden + block.out_bias.unsqueeze(1)
        out = mixed @ block.out_weight.mT
        hidden = dropout_residual(out, hidden, dropout_p=dropout_p, rng=rng, site=site + 1)
        inner = _norm(hidden) @ block.ff1_weight.mT + block.ff1_bias.unsqueeze(1)
        out = inner.relu() @ block.ff2_weight.mT + block.ff2_bias.unsqueeze(1)
        hidden = dropout_residual(out, hidden, dropout_p=dropout_p, rng=rng, site=site + 2)
        site += _SITES_PER_BLOCK
    last = hidden[:, cu_seqlens[1:].long() - 1]
    logits: Tensor = torch.einsum("fsd,fd->sf", last, head[0]) + head[1]
    return logits


def _norm(hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:], eps=_EPS)


def _split_heads(hidden: Tensor, num_heads: int) -> Tensor:
    """``(num_factors, tokens, hidden_dim)`` to ``(tokens, num_factors * num_heads, head_dim)``."""
    num_factors, tokens, width = hidden.shape
    split = hidden.transpose(0, 1).reshape(tokens, num_factors * num_heads, width // num_heads)
    return split.contiguous()
