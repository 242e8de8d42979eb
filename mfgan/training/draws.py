"""Random numbers of a step: from a CPU generator, or on a GPU from the step's counter.

A generator's numbers are made on the host. On a GPU they would have to be copied there in the midst
of a step, so there each number follows from a seed, the step and its own place instead; nothing
moves, and a recorded step that is replayed draws anew when its counter has changed.
"""

import torch
from torch import Tensor

from mfgan.ops.reference import random_bits

Draws = torch.Generator | Tensor
"""A CPU generator, or the ``(2,)`` int64 [seed, step] on a GPU."""

_MANTISSA = 1 << 24


def counter(seed: int, step: int, device: torch.device) -> Tensor:
    """The ``(2,)`` int64 tensor [seed, step], written on the device itself."""
    if device.type == "cpu":
        return torch.tensor([seed, step], dtype=torch.int64)
    return fill_counter(torch.empty(2, dtype=torch.int64, device=device), seed, step)


def fill_counter(counter: Tensor, seed: int, step: int) -> Tensor:
    """Write [seed, step] into a counter; as arguments of kernels, so the host waits for nothing."""
    counter[:1].fill_(seed)
    counter[1:].fill_(step)
    return counter


def next_draws(draws: Draws) -> Draws:
    """Those of the batch after this one: a generator goes on by itself, a counter by a step."""
    if isinstance(draws, torch.Generator):
        return draws
    return counter(int(draws[0]), int(draws[1]) + 1, draws.device)


def uniform(draws: Draws, first_row: int, num_rows: int, num_columns: int, like: Tensor) -> Tensor:
    """Numbers in ``[0, 1)``.

    Args:
        draws: Where they come from.
        first_row: Number of the first row among all that the step draws here; a generator just
            goes on.
        num_rows: How many rows.
        num_columns: How many columns.
        like: Device and dtype of the result.

    Returns:
        ``(num_rows, num_columns)``.
    """
    if isinstance(draws, torch.Generator):
        return torch.rand(num_rows, num_columns, generator=draws).to(like)
    bits = _bits(draws, first_row, num_rows, num_columns)
    return (bits >> 8).to(like.dtype) / _MANTISSA


def exponential(
    draws: Draws, first_row: int, num_rows: int, num_columns: int, like: Tensor
) -> Tensor:
    """Exponential numbers of mean 1, all above 0; arguments as for ``uniform``."""
    if isinstance(draws, torch.Generator):
        noise = torch.empty(num_rows, num_columns, dtype=like.dtype)
        return noise.exponential_(generator=draws).to(like.device)
    bits = _bits(draws, first_row, num_rows, num_columns)
    # Near 0, which decides who is drawn, floats lie close together; near 1 they must not round up.
    chance = ((bits.to(like.dtype) + 0.5) / 4294967296.0).clamp_max(1 - 1 / _MANTISSA)
    return -torch.log1p(-chance)


def integers(draws: Tensor, end: int, num_rows: int, num_columns: int) -> Tensor:
    """Whole numbers from 0 to ``end - 1``, from a counter, ``(num_rows, num_columns)`` int64."""
    return (_bits(draws, 0, num_rows, num_columns) * end) >> 32


def _bits(counter: Tensor, first_row: int, num_rows: int, num_columns: int) -> Tensor:
    rows = torch.arange(first_row, first_row + num_rows, device=counter.device)
    columns = torch.arange(num_columns, device=counter.device)
    return random_bits(counter, 0, rows[:, None], columns)
