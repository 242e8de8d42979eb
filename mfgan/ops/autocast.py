"""What the operators do inside ``torch.autocast``: dtypes that would be refused outside are cast.

Matrix products give halves there and other operations float32, so an operator is handed both. Sums
and statistics are float32 in every kernel, whatever comes in.
"""

import torch
from torch import Tensor

_DEVICES = ("cpu", "cuda")


def active(x: Tensor) -> bool:
    """Whether autocast is on for the device of ``x``; float64 is never cast."""
    on = x.device.type in _DEVICES and torch.is_autocast_enabled(x.device.type)
    return on and x.dtype != torch.float64


def lowered(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All of them in the dtype of autocast, as PyTorch casts what goes into its own attention."""
    return tuple(x.to(torch.get_autocast_dtype(x.device.type)) for x in tensors)


def widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All of them in float32."""
    return tuple(x.float() for x in tensors)


def as_scored(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All of them as ``factor_score`` has them: the CPU's kernel would only widen halves again."""
    return lowered(*tensors) if tensors[0].is_cuda else widened(*tensors)
