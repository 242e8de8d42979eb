"""Log-sum-exp over displayed sets with the option of no click: entry point, shapes, gradient."""

from typing import Any

import torch
from torch import Tensor

from mfgan.ops import checks, library, reference_choice

_WHERE = "choice_logsumexp"
_DEVICES = library.devices(_WHERE)


def choice_logsumexp(utilities: Tensor, offsets: Tensor, *, no_click: bool = True) -> Tensor:
    """``log(1 + Σ exp u)`` over each displayed set, the 1 being no click of utility 0.

    Nothing overflows: the largest utility of a set, no click among them, is taken out first. The
    choice probabilities are ``exp(u - result)``, as in Chen et al. (ICML 2019, section 3).

    Args:
        utilities: ``(num_rows,)`` float32, float64, bfloat16 or float16, sets laid end to end.
        offsets: ``(num_sets + 1,)`` int64 bounds of the sets, from 0 to ``num_rows``. A set may be
            empty.
        no_click: Whether leaving without a click is one of the options.

    Returns:
        ``(num_sets,)`` in the dtype of ``utilities``; of an empty set 0, or -inf without the
        option of no click.

    Raises:
        ValueError: A shape, a device or the offsets are wrong.
        TypeError: A dtype is wrong.
    """
    if utilities.dim() != 1:
        raise ValueError(f"{_WHERE}: utilities must be (num_rows,), got {checks.shape(utilities)}")
    checks.floating(_WHERE, "utilities", utilities)
    if offsets.dim() != 1 or offsets.shape[0] == 0:
        raise ValueError(f"{_WHERE}: offsets must be (num_sets + 1,), got {checks.shape(offsets)}")
    checks.dtype(_WHERE, "offsets", offsets, torch.int64)
    checks.device(_WHERE, "offsets", offsets, utilities)
    if utilities.device.type in _DEVICES:
        op = torch.ops.mfgan.choice_logsumexp.default
        out: Tensor = op(utilities, offsets, no_click=no_click)
        return out.to(utilities.dtype)
    return reference_choice.choice_logsumexp(utilities, offsets, no_click=no_click)


def _fake(utilities: Tensor, offsets: Tensor, *, no_click: bool) -> Tensor:
    wide = torch.float64 if utilities.dtype == torch.float64 else torch.float32
    return utilities.new_empty((offsets.shape[0] - 1,), dtype=wide)


def _fake_backward(grad_out: Tensor, utilities: Tensor, offsets: Tensor, lse: Tensor) -> Tensor:
    return utilities.new_empty(utilities.shape)


def _setup_context(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    utilities, offsets = inputs
    ctx.save_for_backward(utilities, offsets, output)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, None]:
    return torch.ops.mfgan.choice_logsumexp_backward.default(grad_out, *ctx.saved_tensors), None


if _DEVICES:
    torch.library.register_fake("mfgan::choice_logsumexp", _fake)
    torch.library.register_fake("mfgan::choice_logsumexp_backward", _fake_backward)
    torch.library.register_autograd(
        "mfgan::choice_logsumexp", _backward, setup_context=_setup_context
    )
