"""Checks of what every operator is given: ``where: rule, got value``."""

import torch
from torch import Tensor

_FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def shape(x: Tensor) -> tuple[int, ...]:
    """The shape as a plain tuple, for messages."""
    return tuple(x.shape)


def floating(where: str, name: str, x: Tensor) -> None:
    """``x`` must have a dtype that the kernels compute with."""
    if x.dtype not in _FLOATING:
        raise TypeError(
            f"{where}: {name} must be float32, float64, bfloat16 or float16, got {_name(x.dtype)}"
        )


def dtype(where: str, name: str, x: Tensor, wanted: torch.dtype) -> None:
    """``x`` must have the dtype ``wanted``."""
    if x.dtype != wanted:
        raise TypeError(f"{where}: {name} must be {_name(wanted)}, got {_name(x.dtype)}")


def device(where: str, name: str, x: Tensor, like: Tensor) -> None:
    """``x`` must lie on the device of ``like``."""
    if x.device != like.device:
        raise ValueError(f"{where}: {name} must be on {like.device}, got {x.device}")


def dropout(where: str, dropout_p: float, rng: Tensor | None, like: Tensor) -> None:
    """``dropout_p`` must be a probability below 1, ``rng`` None or a seed and an offset."""
    if not 0 <= dropout_p < 1:
        raise ValueError(f"{where}: dropout_p must be in [0, 1), got {dropout_p}")
    if rng is not None:
        if rng.shape != (2,):
            raise ValueError(f"{where}: rng must be (2,), got {shape(rng)}")
        dtype(where, "rng", rng, torch.int64)
        device(where, "rng", rng, like)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
