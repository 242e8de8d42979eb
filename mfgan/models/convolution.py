"""A convolution of a session's last tokens: what attention is slow to learn of few examples."""

import torch
from torch import Tensor, nn

from mfgan.ops import causal_convolution


class CausalConvolution(nn.Module):
    """Adds to every token those before it, weighed by distance and channel.

    It begins as the identity. It is the learned form of the fixed low-pass filter that BSARec puts
    beside attention (Shin et al., AAAI 2024, section 4.2).

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
        return causal_convolution(x, self.taps.to(x.dtype), cu_seqlens)
