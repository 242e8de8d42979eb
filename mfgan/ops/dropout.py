"""Dropout and the residual sum after it, in one pass: entry point, shapes and gradient."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mfgan.ops import autocast, checks, eager, library, reference

_WHERE = "dropout_residual"
_DEVICES = library.devices(_WHERE)


def dropout_residual(
    x: Tensor, residual: Tensor | None, *, dropout_p: float, rng: Tensor | None, site: int
) -> Tensor:
    """``residual + dropout(x)``.

    Args:
        x: ``(..., num_columns)``, float32, float64, bfloat16 or float16.
        residual: The shape, dtype and device of ``x``; None adds nothing.
        dropout_p: Probability of dropping an element, in ``[0, 1)``.
        rng: ``(2,)`` int64, seed and offset of the step; None drops nothing.
        site: Tells the places of one step apart that draw.

    Returns:
        The shape and dtype of ``x``; inside ``torch.autocast`` the dtype of ``residual``.

    Raises:
        ValueError: A shape or a device is wrong.
        TypeError: A dtype is wrong.
    """
    if x.dim() == 0:
        raise ValueError(f"{_WHERE}: x must have a dimension, got {checks.shape(x)}")
    checks.floating(_WHERE, "x", x)
    if residual is not None and autocast.active(x):
        x = x.to(residual.dtype)
    checks.dropout(_WHERE, dropout_p, rng, x)
    if residual is not None:
        if residual.shape != x.shape:
            raise ValueError(
                f"{_WHERE}: residual must have the shape of x {checks.shape(x)}, "
                f"got {checks.shape(residual)}"
            )
        checks.dtype(_WHERE, "residual", residual, x.dtype)
        checks.device(_WHERE, "residual", residual, x)
    if rng is None or dropout_p == 0:
        return x if residual is None else x + residual
    flat = math.prod(x.shape[:-1]), x.shape[-1]
    rows = x.reshape(flat)
    add = None if residual is None else residual.reshape(flat)
    if library.serves(_DEVICES, x):
        out = _drop(rows, add, rng, {"dropout_p": dropout_p, "site": site})
    else:
        out = reference.dropout_residual(rows, add, dropout_p=dropout_p, rng=rng, site=site)
    return out.view(x.shape)


def _drop(x: Tensor, residual: Tensor | None, rng: Tensor, keywords: dict[str, Any]) -> Tensor:
    op = torch.ops.mfgan.dropout_residual.default
    if not eager.is_plain():
        return op(x, residual, rng, **keywords)  # type: ignore[no-any-return]
    if eager.wants_gradient(x, residual):
        return _Dropout.apply(x, residual, rng, keywords)  # type: ignore[no-any-return, no-untyped-call]
    with eager.below_autograd():
        return op(x, residual, rng, **keywords)  # type: ignore[no-any-return]


def _fake(x: Tensor, *_inputs: Any, **_keywords: Any) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    _x, residual, rng = inputs
    ctx.keywords = keyword_only_inputs
    ctx.has_residual = residual is not None
    ctx.save_for_backward(rng)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    (rng,) = ctx.saved_tensors
    grad_x = None
    if ctx.needs_input_grad[0]:
        op = torch.ops.mfgan.dropout_residual_backward.default
        grad_x = op(grad_out, rng, **ctx.keywords)
    return grad_x, grad_out if ctx.has_residual else None, None


class _Dropout(torch.autograd.Function):
    """The gradient in eager mode (eager.py)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, keywords = inputs
        _setup_context(ctx, tensors, keywords, None)
        with eager.below_autograd():
            op = torch.ops.mfgan.dropout_residual.default
            return op(*tensors, **keywords)  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        with eager.below_autograd():
            return (*_backward(ctx, grad_out), None)


if _DEVICES:
    torch.library.register_fake("mfgan::dropout_residual", _fake)
    torch.library.register_fake("mfgan::dropout_residual_backward", _fake)
    torch.library.register_autograd(
        "mfgan::dropout_residual", _backward, setup_context=_setup_context
    )
