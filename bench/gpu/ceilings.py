"""What the device can do at most: bytes copied a second, operations of a matrix product a second."""

from statistics import median

import torch

from bench.gpu.clock import Clock, Run, in_turns
from bench.gpu.journal import Journal


def measure_ceilings(clock: Clock, journal: Journal, *, small: bool) -> None:
    """Add ``copy`` (bytes read and written a second) and matrix products (operations a second).

    Args:
        clock: How to time.
        journal: Where the facts go.
        small: Sizes for a trial run.
    """
    device = clock.device
    size = 1 << (16 if small else 31)
    seconds = _median(_copy(size, device), clock)
    journal.add("fact", name="copy", value=2 * size / seconds, unit="B/s")
    before = torch.get_float32_matmul_precision()
    kinds = {"bf16": (torch.bfloat16, "highest"), "tf32": (torch.float32, "high")}
    kinds["float32"] = torch.float32, "highest"
    try:
        for name, (dtype, precision) in kinds.items():
            torch.set_float32_matmul_precision(precision)
            size = 64 if small else 8192 if dtype == torch.bfloat16 else 4096
            a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            seconds = _median(lambda a=a, b=b: a @ b, clock)
            journal.add("fact", name=f"matmul {name}", value=2 * size**3 / seconds, unit="FLOP/s")
    finally:
        torch.set_float32_matmul_precision(before)


def _copy(size: int, device: torch.device) -> Run:
    source = torch.empty(size, dtype=torch.uint8, device=device).random_(256)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _median(run: Run, clock: Clock) -> float:
    for _ in range(3):
        run()
    return median(in_turns({"it": run}, clock, seconds=1.0, most=20)["it"])
