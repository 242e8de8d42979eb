"""A linear map of tokens with what stands around it, in one pass: shapes and gradient."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mfgan.ops import autocast, checks, eager, library, reference_dense

Activation = Literal["none", "relu", "gelu"]
_ACTIVATIONS: tuple[str, ...] = get_args(Activation)

_WHERE = "dense"
_DEVICES = library.devices(_WHERE)


def dense(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    eps: float = 1e-6,
    activation: Activation = "none",
    residual: Tensor | None = None,
    dropout_p: float = 0.0,
    rng: Tensor | None = None,
    site: int = 0,
) -> Tensor:
    """``residual + dropout(activation(norm(x) @ weight.T + bias))``.

    On the CPU the gradients of weights are sums over slices of rows that do not depend on the
    number of threads, so they are the same bits on any.

    Args:
        x: ``(num_rows, num_in)``, float32, float64, bfloat16 or float16.
        weight: ``(num_out, num_in)``; this and all that follows in the dtype of ``x``.
        bias: ``(num_out,)`` or none.
        norm_weight: ``(num_in,)``: normalise each row first. Without it there is no norm.
        norm_bias: ``(num_in,)``: with it layer norm, without it RMS norm.
        eps: Added to the mean square under the norm's root.
        activation: ``"none"``, ``"relu"``, or ``"gelu"`` in its tanh form.
        residual: ``(num_rows, num_out)``; None adds nothing.
        dropout_p: Probability of dropping an element, in ``[0, 1)``.
        rng: ``(2,)`` int64, seed and offset of the step; None drops nothing.
        site: Tells the places of one step apart that draw.

    Returns:
        ``(num_rows, num_out)``; inside ``torch.autocast`` in float32, of products that are float32
        where there is a kernel and in autocast's dtype where there is none.

    Raises:
        ValueError: A shape or a device is wrong.
        TypeError: A dtype is wrong.
    """
    if autocast.active(x):
        x = x.float()
    _check(x, weight, bias, norm_weight, norm_bias, residual)
    checks.dropout(_WHERE, dropout_p, rng, x)
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"{_WHERE}: activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}"
        )
    if dropout_p == 0:
        rng = None
    if x.device.type in _DEVICES:
        keywords = {
            "eps": eps,
            "activation": _ACTIVATIONS.index(activation),
            "dropout_p": dropout_p,
            "site": site,
        }
        return _map((x, weight, bias, norm_weight, norm_bias, residual, rng), keywords)
    return reference_dense.dense(
        x,
        weight,
        bias,
        norm_weight=norm_weight,
        norm_bias=norm_bias,
        eps=eps,
        activation=activation,
        residual=residual,
        dropout_p=dropout_p,
        rng=rng,
        site=site,
    )


def _map(inputs: tuple[Tensor | None, ...], keywords: dict[str, Any]) -> Tensor:
    op = torch.ops.mfgan.dense.default
    if not eager.is_plain():
        return op(*inputs, **keywords)[0]  # type: ignore[no-any-return]
    if eager.wants_gradient(*inputs):
        return _Dense.apply(*inputs, keywords)  # type: ignore[no-any-return, no-untyped-call]
    with eager.below_autograd():
        return op(*inputs, **keywords)[0]  # type: ignore[no-any-return]


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    residual: Tensor | None,
) -> None:
    if x.dim() != 2:
        raise ValueError(f"{_WHERE}: x must be (num_rows, num_in), got {checks.shape(x)}")
    checks.floating(_WHERE, "x", x)
    num_in = x.shape[1]
    if weight.dim() != 2 or weight.shape[1] != num_in or weight.numel() == 0:
        raise ValueError(
            f"{_WHERE}: weight must be (num_out, num_in) with num_in {num_in}, "
            f"got {checks.shape(weight)}"
        )
    num_out = weight.shape[0]
    wanted = {
        "weight": (weight, (num_out, num_in)),
        "bias": (bias, (num_out,)),
        "norm_weight": (norm_weight, (num_in,)),
        "norm_bias": (norm_bias, (num_in,)),
        "residual": (residual, (x.shape[0], num_out)),
    }
    for name, (given, shape) in wanted.items():
        if given is None:
            continue
        if given.shape != shape:
            raise ValueError(f"{_WHERE}: {name} must be {shape}, got {checks.shape(given)}")
        checks.dtype(_WHERE, name, given, x.dtype)
        checks.device(_WHERE, name, given, x)
    if norm_bias is not None and norm_weight is None:
        raise ValueError(f"{_WHERE}: norm_bias must come with norm_weight, got it alone")


def _fake(x: Tensor, weight: Tensor, *_inputs: Any, **keywords: Any) -> tuple[Tensor, Tensor]:
    shape = x.shape[0], weight.shape[0]
    return x.new_empty(shape), x.new_empty((shape[0] if keywords["activation"] else 0, shape[1]))


def _fake_backward(
    _grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    *_inputs: Any,
    **_keywords: Any,
) -> tuple[Tensor, ...]:
    small = (bias, norm_weight, norm_bias)
    sizes = [0 if given is None else given.shape[0] for given in small]
    return x.new_empty(x.shape), x.new_empty(weight.shape), *(x.new_empty((n,)) for n in sizes)


def _setup_context(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    x, weight, bias, norm_weight, norm_bias, residual, rng = inputs
    ctx.keywords = keyword_only_inputs
    ctx.has_residual = residual is not None
    ctx.save_for_backward(x, weight, bias, norm_weight, norm_bias, output[1], rng)


def _setup_both(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    _setup_context(ctx, inputs, keyword_only_inputs, output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad_out: Tensor, _grad_before: Any) -> tuple[Tensor | None, ...]:
    # Read once: what is computed again in the backward pass gives them no second time.
    saved = ctx.saved_tensors
    op = torch.ops.mfgan.dense_backward.default
    grad_x, grad_weight, *rest = op(grad_out, *saved, **ctx.keywords)
    small = saved[2:5]
    kept = (grad if given is not None else None for grad, given in zip(rest, small, strict=True))
    return grad_x, grad_weight, *kept, grad_out if ctx.has_residual else None, None


class _Dense(torch.autograd.Function):
    """The gradient in eager mode (eager.py)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, keywords = inputs
        with eager.below_autograd():
            output = torch.ops.mfgan.dense.default(*tensors, **keywords)
        _setup_context(ctx, tensors, keywords, output)
        return output[0]  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        with eager.below_autograd():
            return (*_backward(ctx, grad_out, None), None)


if _DEVICES:
    torch.library.register_fake("mfgan::dense", _fake)
    torch.library.register_fake("mfgan::dense_backward", _fake_backward)
    torch.library.register_autograd("mfgan::dense", _backward, setup_context=_setup_both)
