"""Builders and tolerances shared by the tests of the kernels."""

import pytest
import torch

from mfgan.ops import library

HALF = (torch.bfloat16, torch.float16)
# In units of eps * max|exact|: how far off a kernel may be where plain PyTorch is right by luck.
# Nothing wider measures float64: both sides round there, in sums over whole sessions too.
FLOOR = {torch.float64: 512, torch.float32: 16, torch.float16: 1, torch.bfloat16: 1}


def packed(lengths, num_heads, head_dim, *, dtype=torch.float32, device="cpu", seed=0):
    """q, k, v as views of one random projection, their bounds and the longest length."""
    shape = sum(lengths), 3, num_heads, head_dim
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    qkv = drawn(shape, dtype=dtype, device=device, seed=seed).unbind(1)
    return qkv, bounds, max(lengths, default=0)


def drawn(shape, *, dtype=torch.float64, device="cpu", seed=1):
    """Normal numbers, the same in every run."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def needs_kernel(op, device):
    """Skip, saying why, where no compiled kernel of ``op`` serves."""
    if device.type not in library.devices(op):
        status = library.status()[device.type]
        pytest.skip(f"{status.name}: {status.reason or f'has no {op}'}")


def run_with_gradients(function, inputs, weight):
    """Outputs and gradients of ``sum(weight * function(*inputs))`` with respect to every input."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, weight.to(out.dtype))]


def assert_as_accurate_as(actual, plain, exact, factor=2.0):
    """At most ``factor`` times as far from float64 as plain PyTorch is in the same dtype."""
    if actual.numel() == 0:
        return
    assert actual.dtype == plain.dtype
    floor = FLOOR[actual.dtype] * torch.finfo(actual.dtype).eps * exact.abs().max()
    allowed = factor * (plain.double() - exact).abs().max() + floor
    worst = (actual.double() - exact).abs().max()
    assert worst <= allowed, f"off by {worst:.2e}, allowed {allowed:.2e}"
