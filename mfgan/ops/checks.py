"""Checks of what every operator is given: ``where: rule, got value``."""

from itertools import pairwise

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


def session_bounds(
    where: str, cu_seqlens: Tensor, total_tokens: int, max_seqlen: int | None = None
) -> None:
    """Bounds on the CPU must run from 0 to ``total_tokens``; those elsewhere are taken as given.

    The kernels check the same on the CPU themselves; reading it on a GPU would stall the queue.
    """
    if cu_seqlens.device.type != "cpu" or torch.compiler.is_compiling():
        return
    bounds = cu_seqlens.tolist()
    if bounds[0] != 0:
        raise ValueError(f"{where}: cu_seqlens must start at 0, got {bounds[0]}")
    for first, last in pairwise(bounds):
        if last < first:
            raise ValueError(f"{where}: cu_seqlens must never decrease, got {first} before {last}")
        if max_seqlen is not None and last - first > max_seqlen:
            raise ValueError(
                f"{where}: sessions must be no longer than max_seqlen {max_seqlen}, "
                f"got {last - first}"
            )
    if bounds[-1] != total_tokens:
        raise ValueError(
            f"{where}: cu_seqlens must end at total_tokens {total_tokens}, got {bounds[-1]}"
        )


def below(where: str, name: str, index: Tensor, end: int) -> None:
    """Indices on the CPU must be from 0 to ``end - 1``; those elsewhere are taken as given."""
    if index.device.type != "cpu" or torch.compiler.is_compiling():
        return
    wrong = index[(index < 0) | (index >= end)]
    if wrong.numel() > 0:
        raise ValueError(f"{where}: {name} must be from 0 to {end - 1}, got {int(wrong[0])}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
