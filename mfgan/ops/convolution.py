"""A depthwise causal convolution along packed sessions: entry point, shapes and gradient."""

from typing import Any

import torch
from torch import Tensor

from mfgan.ops import checks, library, reference_convolution

_WHERE = "causal_convolution"
_DEVICES = library.devices(_WHERE)


def causal_convolution(x: Tensor, taps: Tensor, cu_seqlens: Tensor) -> Tensor:
    """``x[t] + sum_d taps[d] * x[t - d]``, ``d`` from 0 as far as the session of ``t`` reaches.

    Args:
        x: ``(total_tokens, width)`` float32, float64, bfloat16 or float16, sessions end to end.
        taps: ``(num_taps, width)``, the dtype and device of ``x``; at least one tap.
        cu_seqlens: ``(num_sessions + 1,)`` int32 bounds of the sessions, which may be empty.

    Returns:
        The shape and dtype of ``x``; sums are float32 or wider.

    Raises:
        ValueError: A shape, a device or the bounds are wrong.
        TypeError: A dtype is wrong.
    """
    if x.dim() != 2:
        raise ValueError(f"{_WHERE}: x must be (total_tokens, width), got {checks.shape(x)}")
    checks.floating(_WHERE, "x", x)
    if taps.dim() != 2 or taps.shape[0] == 0 or taps.shape[1] != x.shape[1]:
        raise ValueError(
            f"{_WHERE}: taps must be (num_taps, width) with width {x.shape[1]}, "
            f"got {checks.shape(taps)}"
        )
    checks.dtype(_WHERE, "taps", taps, x.dtype)
    checks.device(_WHERE, "taps", taps, x)
    if cu_seqlens.dim() != 1 or cu_seqlens.shape[0] == 0:
        got = checks.shape(cu_seqlens)
        raise ValueError(f"{_WHERE}: cu_seqlens must be (num_sessions + 1,), got {got}")
    checks.dtype(_WHERE, "cu_seqlens", cu_seqlens, torch.int32)
    checks.device(_WHERE, "cu_seqlens", cu_seqlens, x)
    if library.serves(_DEVICES, x):
        op = torch.ops.mfgan.causal_convolution.default
        return op(x, taps, cu_seqlens)  # type: ignore[no-any-return]
    return reference_convolution.causal_convolution(x, taps, cu_seqlens)


def _fake(x: Tensor, taps: Tensor, cu_seqlens: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _fake_backward(
    grad_out: Tensor, x: Tensor, taps: Tensor, cu_seqlens: Tensor
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(taps.shape)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, None]:
    op = torch.ops.mfgan.causal_convolution_backward.default
    return (*op(grad_out, *ctx.saved_tensors), None)


if _DEVICES:
    torch.library.register_fake("mfgan::causal_convolution", _fake)
    torch.library.register_fake("mfgan::causal_convolution_backward", _fake_backward)
    torch.library.register_autograd(
        "mfgan::causal_convolution", _backward, setup_context=_setup_context
    )
