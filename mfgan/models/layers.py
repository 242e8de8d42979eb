"""The parts of a transformer over packed sessions: no padding, dropout from one counter."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfgan.ops import dropout_residual, varlen_attention

if TYPE_CHECKING:
    from mfgan.config import GeneratorConfig

# Places that draw in one block, in the order in which they do.
_SITES_PER_BLOCK = 3


class SelfAttention(nn.Module):
    """Causal multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, config: "GeneratorConfig") -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout_p = config.attention_dropout
        self.qkv = nn.Linear(config.hidden_dim, 3 * config.hidden_dim)
        self.out = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.distance_bias: nn.Parameter | None = None
        if config.distance_bias:
            self.distance_bias = nn.Parameter(torch.zeros(config.num_heads, config.max_len))

    def forward(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        rng: Tensor | None,
        site: int,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Let every token look at its session up to itself.

        Args:
            x: ``(total_tokens, hidden_dim)``.
            cu_seqlens: ``(num_sessions + 1,)`` int32.
            max_seqlen: The longest session.
            rng: ``(2,)`` int64, or none for no dropout.
            site: Where in the model this draws.
            rows: ``(n,)`` int64, the tokens whose outcome is wanted; all of them where None.

        Returns:
            ``(total_tokens, hidden_dim)``, or ``(n, hidden_dim)``.
        """
        head_dim = x.shape[1] // self.num_heads
        q, k, v = self.qkv(x).view(x.shape[0], 3, self.num_heads, head_dim).unbind(1)
        attended = varlen_attention(
            q,
            k,
            v,
            cu_seqlens,
            max_seqlen,
            causal=True,
            dropout_p=self.dropout_p if rng is not None else 0.0,
            rng=rng,
            site=site,
            distance_bias=self.distance_bias,
        )
        attended = attended.reshape(x.shape)
        projected: Tensor = self.out(attended if rows is None else attended[rows])
        return projected


class FeedForward(nn.Module):
    """Two linear maps with an activation, or a gate (SwiGLU, Shazeer 2020), between them."""

    def __init__(self, config: "GeneratorConfig") -> None:
        super().__init__()
        inner = max(1, round(config.hidden_dim * config.ff_multiple))
        self.activation = config.activation
        width = 2 * inner if self.activation == "swiglu" else inner
        self.up = nn.Linear(config.hidden_dim, width)
        self.down = nn.Linear(inner, config.hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map each token by itself, ``(total_tokens, hidden_dim)`` to the same."""
        x = self.up(x)
        if self.activation == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            x = F.silu(gate) * x
        elif self.activation == "gelu":
            x = F.gelu(x, approximate="tanh")
        else:
            x = F.relu(x)
        mapped: Tensor = self.down(x)
        return mapped


def make_norm(config: "GeneratorConfig") -> nn.Module:
    """The norm that the settings name."""
    if config.norm == "rms":
        return nn.RMSNorm(config.hidden_dim, eps=1e-6)
    return nn.LayerNorm(config.hidden_dim, eps=1e-6)


class Block(nn.Module):
    """Attention, then feed-forward, each with dropout, residual and a norm before or after it."""

    def __init__(self, config: "GeneratorConfig", place: int) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = make_norm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = make_norm(config)
        self.pre_norm = config.norm_place == "pre"
        self.dropout_p = config.dropout
        self.site = 1 + place * _SITES_PER_BLOCK  # site 0 is the embedding's

    def forward(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        rng: Tensor | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """``(total_tokens, hidden_dim)`` to the same, or to the ``rows`` that are wanted."""
        site, dropout_p = self.site, self.dropout_p
        given = (cu_seqlens, max_seqlen, rng, site, rows)
        if self.pre_norm:
            y = self.attention(self.attention_norm(x), *given)
            x = x if rows is None else x[rows]
            x = dropout_residual(y, x, dropout_p=dropout_p, rng=rng, site=site + 1)
            y = self.feed_forward(self.feed_forward_norm(x))
            return dropout_residual(y, x, dropout_p=dropout_p, rng=rng, site=site + 2)
        y = self.attention(x, *given)
        x = x if rows is None else x[rows]
        x = self.attention_norm(dropout_residual(y, x, dropout_p=dropout_p, rng=rng, site=site + 1))
        y = self.feed_forward(x)
        normed: Tensor = self.feed_forward_norm(
            dropout_residual(y, x, dropout_p=dropout_p, rng=rng, site=site + 2)
        )
        return normed
