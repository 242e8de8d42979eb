"""A causal convolution along packed sessions: what attention of few examples is slow to learn."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_ROWS = 512  # worked on at once, so that they stay near a core from tap to tap


class CausalConvolution(nn.Module):
    """Adds to every token those before it, weighed by distance and channel.

    ``y[t] = x[t] + sum_d taps[d] * x[t - d]`` within a session, ``d`` from 0: a depthwise
    convolution that begins as the identity. It is the learned form of the fixed low-pass filter
    that BSARec puts beside attention (Shin et al., AAAI 2024, eq. 7 to 9).

    Args:
        width: Channels.
        num_taps: Distances, the token itself included.
    """

    def __init__(self, width: int, num_taps: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.zeros(num_taps, width))

    def forward(self, x: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Convolve every session by itself.

        Args:
            x: ``(total_tokens, width)``.
            cu_seqlens: ``(num_sessions + 1,)`` int32.

        Returns:
            The shape and dtype of ``x``.
        """
        gap = len(self.taps) - 1
        bounds = cu_seqlens.long()
        sessions = torch.arange(1, len(bounds), device=x.device)
        session = torch.repeat_interleave(sessions, bounds.diff(), output_size=len(x))
        # Zeros before each session, so that no tap reaches into another one.
        places = torch.arange(len(x), device=x.device) + gap * session
        spread = x.new_zeros(len(x) + gap * len(sessions), x.shape[1])
        spread = spread.index_copy(0, places, x)
        convolved: Tensor = _Convolution.apply(spread, self.taps.to(x.dtype))  # type: ignore[no-untyped-call]
        return x + convolved.index_select(0, places - gap)


class _Convolution(torch.autograd.Function):
    """``y[t] = sum_d taps[d] * x[t + num_taps - 1 - d]``: as far as all taps have something."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(x, taps)
        out = x.new_zeros(max(0, len(x) - len(taps) + 1), x.shape[1])
        for rows in _chunks(len(out), x.device):
            for tap, seen in zip(taps, _windows(x, rows, len(taps)), strict=True):
                out[rows].addcmul_(seen, tap)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, taps = ctx.saved_tensors
        grad_x, grad_taps = torch.zeros_like(x), torch.zeros_like(taps)
        for rows in _chunks(len(grad), x.device):
            places = zip(
                *(taps, grad_taps),
                *(_windows(x, rows, len(taps)), _windows(grad_x, rows, len(taps))),
                strict=True,
            )
            for tap, grad_tap, seen, grad_seen in places:
                grad_seen.addcmul_(grad[rows], tap)
                grad_tap += (grad[rows] * seen).sum(0)
        return grad_x, grad_taps


def _windows(x: Tensor, rows: slice, num_taps: int) -> list[Tensor]:
    """The rows that each tap sees for these rows of the outcome."""
    lags = [num_taps - 1 - tap for tap in range(num_taps)]
    return [x[rows.start + lag : rows.stop + lag] for lag in lags]


def _chunks(num_rows: int, device: torch.device) -> list[slice]:
    size = _ROWS if device.type == "cpu" else max(1, num_rows)
    return [slice(first, min(first + size, num_rows)) for first in range(0, num_rows, size)]
