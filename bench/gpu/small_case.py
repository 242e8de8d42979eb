"""Every CUDA kernel once, forward and backward, on little data: what a sanitizer looks at."""

import sys

import torch

from bench.gpu.machine import kernels
from bench.plain_score import make_tower
from bench.score_input import draw_items, kernel_scores
from mfgan.ops import causal_convolution, dropout_residual, varlen_attention


def main(device_name: str = "cuda") -> int:
    """Run the operators; 0 when all results are numbers."""
    device = torch.device(device_name)
    rng = torch.tensor([1, 2], device=device)
    numbers = [_attention(device, rng, dtype) for dtype in (torch.bfloat16, torch.float32)]
    numbers += [_dropout(device, rng), _convolution(device), _score(device, rng)]
    for name, kernel in kernels(device_name).items():
        print(f"{name}: {'kernel' if kernel else 'no kernel here, plain PyTorch'}")
    fine = all(bool(x.isfinite().all()) for x in numbers)
    print("results are numbers" if fine else "results are not numbers")
    return 0 if fine else 1


def _attention(device: torch.device, rng: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    lengths = [0, 1, 7, 63, 65, 0, 130]
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    found = []
    for head_dim in (32, 64, 50):
        qkv = torch.randn(sum(lengths), 3, 2, head_dim, device=device, dtype=dtype)
        leaves = [x.detach().requires_grad_() for x in qkv.unbind(1)]
        bias = torch.zeros(2, 20, device=device, dtype=dtype, requires_grad=True)
        for causal in (True, False):
            out = varlen_attention(
                *leaves, bounds, 130, causal=causal, dropout_p=0.2, rng=rng, distance_bias=bias
            )
            found += torch.autograd.grad(out.float().sum(), [*leaves, bias])
    return torch.cat([x.float().flatten() for x in found])


def _dropout(device: torch.device, rng: torch.Tensor) -> torch.Tensor:
    x = torch.randn(33, 50, device=device, requires_grad=True)
    out = dropout_residual(x, x, dropout_p=0.2, rng=rng, site=3)
    return torch.autograd.grad(out.sum(), x)[0]


def _convolution(device: torch.device) -> torch.Tensor:
    x = torch.randn(70, 50, device=device, requires_grad=True)
    taps = torch.randn(10, 50, device=device, requires_grad=True)
    bounds = torch.tensor([0, 3, 3, 70], device=device, dtype=torch.int32)
    grads = torch.autograd.grad(causal_convolution(x, taps, bounds).sum(), (x, taps))
    return torch.cat([g.flatten() for g in grads])


def _score(device: torch.device, rng: torch.Tensor) -> torch.Tensor:
    tower = make_tower(3, 40, 50, 21, device=device)
    history = draw_items(40, 3, 21, seed=1).to(device)
    candidates = draw_items(40, 3, 21, 3, seed=2).to(device)
    out = kernel_scores(tower, history, candidates, 2, 0.25, rng)
    grads = torch.autograd.grad(out.sum(), tower.leaves())
    return torch.cat([x.flatten() for x in grads])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
