"""``causal_convolution`` in plain PyTorch: the contract, and what serves without a kernel."""

import torch
from torch import Tensor

from mfgan.ops import checks


def causal_convolution(x: Tensor, taps: Tensor, cu_seqlens: Tensor) -> Tensor:
    """See ``mfgan.ops.causal_convolution``; nothing is read back from a GPU."""
    checks.session_bounds("causal_convolution", cu_seqlens, x.shape[0])
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    gap, bounds = taps.shape[0] - 1, cu_seqlens.long()
    session = torch.repeat_interleave(
        torch.arange(1, len(bounds), device=x.device), bounds.diff(), output_size=len(x)
    )
    # Zeros before each session, so that no tap reaches into another one.
    places = torch.arange(len(x), device=x.device) + gap * session
    spread = x.new_zeros(len(x) + gap * (len(bounds) - 1), x.shape[1], dtype=wide)
    spread = spread.index_copy(0, places, x.to(wide))
    out = spread
    for lag, tap in enumerate(taps.to(wide)):
        out = out + tap * spread.roll(lag, 0)
    return out.index_select(0, places).to(x.dtype)
