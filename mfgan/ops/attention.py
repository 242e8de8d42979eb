"""Self-attention inside each session of a packed batch: entry point, shapes and gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mfgan.ops import autocast, checks, eager, library, reference

_WHERE = "varlen_attention"
_DEVICES = library.devices(_WHERE)
# The widest heads whose float32 tiles fit into 99 KiB of a GPU's shared memory.
_MOST_SHARED_HEAD = 64


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
    allow_tf32: bool = False,
) -> Tensor:
    """Attend inside each session of a packed batch; tokens of different sessions never meet.

    Args:
        q, k, v: ``(total_tokens, num_heads, head_dim)``, float32, float64, bfloat16 or float16.
            Any strides: views of one projection are read where they lie if features are contiguous.
        cu_seqlens: ``(num_sessions + 1,)`` int32, first 0, last ``total_tokens``, never decreasing.
        max_seqlen: No session is longer.
        causal: A token sees itself and the tokens before it, rather than its whole session.
        scale: Factor on ``q @ k``; ``head_dim ** -0.5`` when not given.
        dropout_p: Probability of dropping an attention weight, in ``[0, 1)``.
        rng: ``(2,)`` int64, seed and offset of the step; None drops nothing.
        site: Tells the places of one step apart that draw.
        distance_bias: ``(num_heads, num_distances)`` in the dtype of ``q``; entry
            ``min(|query - key|, num_distances - 1)`` of a head is added to its logit.
        allow_tf32: On a GPU, float32 products may round their factors to TF32, ten bits of
            mantissa, for the speed of its tensor cores. Torch's own switch is not asked. Other
            dtypes and devices take no notice.

    Returns:
        ``(total_tokens, num_heads, head_dim)``, in the dtype of ``q``; inside ``torch.autocast``
        all is cast to its dtype first. On a GPU neighbouring sessions may share a tile: what is
        infinite or NaN in one makes NaN of the other's rows too.

    Raises:
        ValueError: A shape, a device or the session bounds are wrong.
        TypeError: A dtype is wrong.
    """
    if autocast.active(q):
        q, k, v = autocast.lowered(q, k, v)
        if distance_bias is not None:
            (distance_bias,) = autocast.lowered(distance_bias)
    _check(q, k, v, cu_seqlens, distance_bias)
    checks.dropout(_WHERE, dropout_p, rng, q)
    if dropout_p == 0:
        rng = None
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if library.serves(_DEVICES, q, large=q.shape[-1] > _MOST_SHARED_HEAD):
        keywords = {"causal": causal, "scale": scale, "dropout_p": dropout_p, "site": site}
        keywords["allow_tf32"] = allow_tf32
        return _attend(q, k, v, cu_seqlens, max_seqlen, distance_bias, rng, keywords)
    checks.session_bounds(_WHERE, cu_seqlens, q.shape[0], max_seqlen)
    return reference.varlen_attention(
        q,
        k,
        v,
        cu_seqlens,
        max_seqlen,
        causal=causal,
        scale=scale,
        dropout_p=dropout_p,
        rng=rng,
        site=site,
        distance_bias=distance_bias,
    )


def _attend(*inputs: Any) -> Tensor:
    *tensors, keywords = inputs
    if not eager.is_plain():
        out, _lse = torch.ops.mfgan.varlen_attention.default(*tensors, **keywords)
    elif eager.wants_gradient(*tensors[:3], tensors[5]):
        out = _Attention.apply(*inputs)  # type: ignore[no-untyped-call]
    else:
        with eager.below_autograd():
            out, _lse = torch.ops.mfgan.varlen_attention.default(*tensors, **keywords)
    return out  # type: ignore[no-any-return]


def _check(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, bias: Tensor | None) -> None:
    if q.dim() != 3 or q.shape[1] == 0 or q.shape[2] == 0:
        raise ValueError(
            f"{_WHERE}: q must be (total_tokens, num_heads, head_dim), got {checks.shape(q)}"
        )
    checks.floating(_WHERE, "q", q)
    for name, x in (("k", k), ("v", v)):
        if x.shape != q.shape:
            raise ValueError(
                f"{_WHERE}: {name} must have the shape of q {checks.shape(q)}, "
                f"got {checks.shape(x)}"
            )
        checks.dtype(_WHERE, name, x, q.dtype)
        checks.device(_WHERE, name, x, q)
    if cu_seqlens.dim() != 1 or cu_seqlens.shape[0] == 0:
        raise ValueError(
            f"{_WHERE}: cu_seqlens must be (num_sessions + 1,), got {checks.shape(cu_seqlens)}"
        )
    checks.dtype(_WHERE, "cu_seqlens", cu_seqlens, torch.int32)
    checks.device(_WHERE, "cu_seqlens", cu_seqlens, q)
    if bias is not None:
        if bias.dim() != 2 or bias.shape[0] != q.shape[1] or bias.shape[1] == 0:
            raise ValueError(
                f"{_WHERE}: distance_bias must be (num_heads, num_distances) with num_heads "
                f"{q.shape[1]}, got {checks.shape(bias)}"
            )
        checks.dtype(_WHERE, "distance_bias", bias, q.dtype)
        checks.device(_WHERE, "distance_bias", bias, q)


def _fake(q: Tensor, *_inputs: Any, **_keywords: Any) -> tuple[Tensor, Tensor]:
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    lse = q.new_empty((q.shape[1], q.shape[0]), dtype=wide)
    return q.new_empty(q.shape), lse


def _fake_backward(
    grad_out: Tensor, q: Tensor, *inputs: Any, **_keywords: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    bias = inputs[6]
    grads = q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape)
    return *grads, q.new_empty((0, 0) if bias is None else bias.shape)


def _save(ctx: Any, inputs: Any, keywords: dict[str, Any], output: Any) -> None:
    q, k, v, cu_seqlens, ctx.max_seqlen, bias, rng = inputs
    ctx.keywords = keywords
    ctx.save_for_backward(q, k, v, *output, cu_seqlens, bias, rng)


def _setup_context(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    _save(ctx, inputs, keyword_only_inputs, output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad_out: Tensor, _grad_lse: Any) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, cu_seqlens, bias, rng = ctx.saved_tensors
    grad_q, grad_k, grad_v, grad_bias = torch.ops.mfgan.varlen_attention_backward.default(
        grad_out, q, k, v, out, lse, cu_seqlens, ctx.max_seqlen, bias, rng, **ctx.keywords
    )
    return grad_q, grad_k, grad_v, None, None, None if bias is None else grad_bias, None


class _Attention(torch.autograd.Function):
    """The gradient in eager mode (eager.py)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, keywords = inputs
        with eager.below_autograd():
            output = torch.ops.mfgan.varlen_attention.default(*tensors, **keywords)
        _save(ctx, tensors, keywords, output)
        return output[0]  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        with eager.below_autograd():
            return (*_backward(ctx, grad_out, None), None)


if _DEVICES:
    torch.library.register_fake("mfgan::varlen_attention", _fake)
    torch.library.register_fake("mfgan::varlen_attention_backward", _fake_backward)
    torch.library.register_autograd(
        "mfgan::varlen_attention", _backward, setup_context=_setup_context
    )
