"""The parts of a transformer over packed sessions: no padding, dropout from one counter."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mfgan.models.convolution import CausalConvolution
from mfgan.ops import dense, dropout_residual, varlen_attention

if TYPE_CHECKING:
    from mfgan.config import GeneratorConfig

# Places that draw in one block, in the order in which they do.
_SITES_PER_BLOCK = 3
SHORTEST = 1e-12  # what shorter rows are divided by


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
        *,
        norm: nn.Module | None = None,
        residual: Tensor,
        dropout_p: float = 0.0,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Let every token look at its session up to itself, and add what it finds to the residual.

        Args:
            x: ``(total_tokens, hidden_dim)``.
            cu_seqlens: ``(num_sessions + 1,)`` int32.
            max_seqlen: The longest session.
            rng: ``(2,)`` int64, or none for no dropout.
            site: Where in the model this draws; the next one is used as well.
            norm: Of the tokens that look and are looked at.
            residual: The shape of what is returned.
            dropout_p: Of what is added.
            rows: ``(n,)`` int64, the tokens whose outcome is wanted; all of them where None.

        Returns:
            ``(total_tokens, hidden_dim)``, or ``(n, hidden_dim)``.
        """
        head_dim = x.shape[1] // self.num_heads
        qkv = mapped(self.qkv, x, norm=norm)
        q, k, v = qkv.view(x.shape[0], 3, self.num_heads, head_dim).unbind(1)
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
        wanted = attended if rows is None else attended[rows]
        return mapped(
            self.out, wanted, residual=residual, dropout_p=dropout_p, rng=rng, site=site + 1
        )


class FeedForward(nn.Module):
    """Two linear maps with an activation, or a gate (SwiGLU, Shazeer 2020), between them."""

    def __init__(self, config: "GeneratorConfig") -> None:
        super().__init__()
        inner = max(1, round(config.hidden_dim * config.ff_multiple))
        self.activation = config.activation
        width = 2 * inner if self.activation == "swiglu" else inner
        self.up = nn.Linear(config.hidden_dim, width)
        self.down = nn.Linear(inner, config.hidden_dim)

    def forward(
        self,
        x: Tensor,
        rng: Tensor | None,
        site: int,
        *,
        norm: nn.Module | None = None,
        dropout_p: float = 0.0,
    ) -> Tensor:
        """Map each token by itself and add the outcome to it.

        Args:
            x: ``(total_tokens, hidden_dim)``.
            rng: ``(2,)`` int64, or none for no dropout.
            site: Where in the model this draws.
            norm: Of the tokens before they are mapped.
            dropout_p: Of what is added.

        Returns:
            ``(total_tokens, hidden_dim)``.
        """
        if self.activation == "swiglu":
            gate, inner = mapped(self.up, x, norm=norm).chunk(2, dim=-1)
            inner = F.silu(gate) * inner
        else:
            inner = mapped(self.up, x, norm=norm, activation=self.activation)
        return mapped(self.down, inner, residual=x, dropout_p=dropout_p, rng=rng, site=site)


def mapped(linear: nn.Linear, x: Tensor, *, norm: nn.Module | None = None, **around: Any) -> Tensor:
    """``linear`` with a norm before it and, by the names of ``dense``, what comes after it."""
    if norm is None:
        return dense(x, linear.weight, linear.bias, **around)
    given: dict[str, Any] = {"norm_weight": norm.weight, "eps": norm.eps}
    if isinstance(norm, nn.LayerNorm):
        given["norm_bias"] = norm.bias
    return dense(x, linear.weight, linear.bias, **given, **around)


class LayerNorm(nn.LayerNorm):
    """Layer norm whose gradients are the same bits on any number of threads.

    PyTorch's own sums the gradients of weight and bias over rows in parts, one a thread.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of ``x``, of any shape that ends in it."""
        plain = F.layer_norm(x, self.normalized_shape, None, None, self.eps)
        return torch.addcmul(self.bias, plain, self.weight)


def make_norm(config: "GeneratorConfig") -> nn.Module:
    """The norm that the settings name."""
    if config.norm == "rms":
        return nn.RMSNorm(config.hidden_dim, eps=1e-6)
    return LayerNorm(config.hidden_dim, eps=1e-6)


def unit_rows(x: Tensor) -> Tensor:
    """Rows of length 1 in the same direction, ``(n, hidden_dim)``; a row of zeros stays one.

    As ``torch.nn.functional.normalize``, with a gradient of few passes over a whole catalogue's
    table.
    """
    return _UnitRows.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(SHORTEST)
        unit: Tensor = x / lengths
        ctx.save_for_backward(unit, lengths)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        unit, lengths = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, unit).unsqueeze(-1)
        out: Tensor = torch.addcmul(grad, along, unit, value=-1).div_(lengths)
        return out


class Block(nn.Module):
    """Attention, then feed-forward, each with dropout, residual and a norm before or after it.

    With ``config.convolution`` what attention makes of a token is mixed with what a convolution of
    the last few tokens makes of it (BSARec, Shin et al., AAAI 2024).
    """

    def __init__(self, config: "GeneratorConfig", place: int) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = make_norm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = make_norm(config)
        self.pre_norm = config.norm_place == "pre"
        self.dropout_p = config.dropout
        self.site = 1 + place * _SITES_PER_BLOCK  # site 0 is the embedding's
        self.convolution: CausalConvolution | None = None
        if config.convolution:
            self.convolution = CausalConvolution(config.hidden_dim, config.convolution)
            self.convolution_norm = nn.Identity() if self.pre_norm else make_norm(config)
            self.convolution_share = config.convolution_share
            # Behind those of all blocks, whose draws are the same with and without it.
            self.convolution_site = 1 + config.num_blocks * _SITES_PER_BLOCK + place

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
        kept = x if rows is None else x[rows]
        mixed = self.attention(
            x,
            cu_seqlens,
            max_seqlen,
            rng,
            site,
            norm=self.attention_norm if self.pre_norm else None,
            residual=kept,
            dropout_p=dropout_p,
            rows=rows,
        )
        if not self.pre_norm:
            mixed = self.attention_norm(mixed)
        if self.convolution is not None:
            convolved = self._convolved(x, kept, cu_seqlens, rng, rows)
            mixed = mixed.lerp(convolved, self.convolution_share)
        if self.pre_norm:
            out: Tensor = self.feed_forward(
                mixed, rng, site + 2, norm=self.feed_forward_norm, dropout_p=dropout_p
            )
            return out
        out = self.feed_forward_norm(self.feed_forward(mixed, rng, site + 2, dropout_p=dropout_p))
        return out

    def _convolved(
        self,
        x: Tensor,
        kept: Tensor,
        cu_seqlens: Tensor,
        rng: Tensor | None,
        rows: Tensor | None,
    ) -> Tensor:
        assert self.convolution is not None
        convolved = self.convolution(self.attention_norm(x) if self.pre_norm else x, cu_seqlens)
        added: Tensor = self.convolution_norm(
            dropout_residual(
                convolved if rows is None else convolved[rows],
                kept,
                dropout_p=self.dropout_p if rng is not None else 0.0,
                rng=rng,
                site=self.convolution_site,
            )
        )
        return added
