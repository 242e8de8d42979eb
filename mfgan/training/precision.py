"""What of a training step is in bfloat16 where the run's ``precision`` is ``bf16``."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from mfgan.config import RunConfig


def autocast(config: RunConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Where a training step runs its models: in ``precision``."""
    if config.precision == "float32":
        return nullcontext()
    # A step reads each weight once, and what is cached would not survive a recording.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def product_precision(config: RunConfig, device: torch.device) -> torch.dtype:
    """Of a loss's products with all items: bf16 where it is asked for and the CPU has it."""
    wanted = config.precision == "bf16" and device.type == "cpu"
    return torch.bfloat16 if wanted and has_bf16_products() else torch.float32


def has_bf16_products() -> bool:
    """Whether this processor multiplies bfloat16 matrices by instructions of its own."""
    asks = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(asks and asks())
