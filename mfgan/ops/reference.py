"""The definition of every operator in plain PyTorch.

Readable rather than fast: what the kernels are tested against, and what serves where no compiled
library is. Random bits are those of ``csrc/rng.h``, so results agree with dropout as well.
"""

import torch
from torch import Tensor

_MASK32 = 0xFFFFFFFF


def _signed(word: int) -> int:
    """A 64-bit constant as int64, where products and sums wrap around as in C++."""
    return word - (1 << 64) if word >= 1 << 63 else word


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix64(x: Tensor) -> Tensor:
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _mix32(x: Tensor) -> Tensor:
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK32
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK32
    return x ^ (x >> 16)


def random_bits(rng: Tensor, site: int, rows: Tensor, columns: Tensor) -> Tensor:
    """The 32 random bits of every element, a function of its place alone.

    Args:
        rng: ``(2,)`` int64, seed and offset.
        site: The place of the model that draws.
        rows: int64 row numbers, any shape that broadcasts with ``columns``.
        columns: int64 column numbers.

    Returns:
        int64 in ``[0, 2**32)``, in the broadcast shape.
    """
    step = _mix64(rng[0] ^ _mix64(rng[1]))
    place = _mix64(step ^ _mix64(torch.full_like(step, site)))
    key = _mix64(place ^ rows)
    start, flip = key & _MASK32, _shift(key, 32)
    return _mix32((start + columns * 0x9E3779B9) & _MASK32) ^ flip


def keep_factor(
    rng: Tensor, site: int, rows: Tensor, columns: Tensor, dropout_p: float, dtype: torch.dtype
) -> Tensor:
    """``1 / (1 - dropout_p)`` where an element is kept, 0 where it is dropped."""
    kept = random_bits(rng, site, rows, columns) >= int(dropout_p * 4294967296.0)
    return kept.to(dtype) * (1 / (1 - dropout_p))


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    causal: bool = True,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: Tensor | None = None,
    site: int = 0,
    distance_bias: Tensor | None = None,
) -> Tensor:
    """See ``mfgan.ops.varlen_attention``; pads every session to ``max_seqlen``."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    total_tokens, num_heads, _ = q.shape
    num_sessions = cu_seqlens.shape[0] - 1
    starts = cu_seqlens.to(torch.int64)
    tokens = torch.arange(total_tokens, device=q.device)
    session = torch.searchsorted(starts, tokens, right=True) - 1
    place = session, tokens - starts[session]

    def padded(x: Tensor) -> Tensor:
        full = x.new_zeros(num_sessions, max_seqlen, *x.shape[1:])
        return full.index_put(place, x).transpose(1, 2)  # (sessions, heads, max_seqlen, head_dim)

    logits = padded(q) @ padded(k).transpose(-1, -2) * scale
    index = torch.arange(max_seqlen, device=q.device)
    distance = index[:, None] - index
    if distance_bias is not None:
        logits = logits + distance_bias[:, distance.abs().clamp(max=distance_bias.shape[1] - 1)]
    seen = index < (starts[1:] - starts[:-1])[:, None, None, None]
    if causal:
        seen = seen & (distance >= 0)
    # The lowest finite number instead of -inf: rows of padding get some weights, and no NaN.
    weights = logits.masked_fill(~seen, torch.finfo(logits.dtype).min).softmax(-1)
    if rng is not None and dropout_p > 0:
        heads = torch.arange(num_heads, device=q.device)[:, None, None]
        row = (starts[:-1, None, None, None] + index[:, None]) * num_heads + heads
        weights = weights * keep_factor(rng, site, row, index, dropout_p, weights.dtype)
    return (weights @ padded(v)).transpose(1, 2)[place]


def dropout_residual(
    x: Tensor, residual: Tensor | None, *, dropout_p: float, rng: Tensor, site: int
) -> Tensor:
    """See ``mfgan.ops.dropout_residual``; ``x`` is ``(num_rows, num_columns)``."""
    rows = torch.arange(x.shape[0], device=x.device)[:, None]
    columns = torch.arange(x.shape[1], device=x.device)
    dropped = x * keep_factor(rng, site, rows, columns, dropout_p, x.dtype)
    return dropped if residual is None else dropped + residual
