"""Operators inside ``torch.autocast`` take what PyTorch's own operations give there."""

import pytest
import torch
from kernels import drawn, packed
from score_inputs import make_inputs

from mfgan.ops import dropout_residual, varlen_attention

BF16 = torch.bfloat16


@pytest.fixture
def autocast(device):
    return lambda: torch.autocast(device.type, BF16)


def test_attention_works_in_half(device, autocast):
    qkv, bounds, longest = packed([3, 0, 9], 2, 8, device=device)
    bias = drawn((2, 4), dtype=torch.float32, device=device).requires_grad_()
    leaves = [x.clone().requires_grad_() for x in qkv]
    with autocast():
        out = varlen_attention(*leaves, bounds, longest, distance_bias=bias)
    assert out.dtype == BF16
    wanted = varlen_attention(
        *(x.to(BF16) for x in qkv), bounds, longest, distance_bias=bias.to(BF16)
    )
    assert torch.equal(out, wanted)
    grads = torch.autograd.grad(out.float().sum(), [*leaves, bias])
    assert all(grad.dtype == torch.float32 for grad in grads)


def test_the_residual_stays_as_wide_as_it_was(device, autocast):
    x, residual = (drawn((4, 6), dtype=torch.float32, device=device, seed=s) for s in (1, 2))
    rng = torch.tensor([1, 2], device=device)
    options = {"dropout_p": 0.5, "rng": rng, "site": 3}
    with autocast():
        out = dropout_residual(x.to(BF16), residual, **options)
        plain = dropout_residual(x.to(BF16), residual, **{**options, "rng": None})
        alone = dropout_residual(x.to(BF16), None, **options)
    assert torch.equal(out, dropout_residual(x.to(BF16).float(), residual, **options))
    assert torch.equal(plain, x.to(BF16).float() + residual)
    assert alone.dtype == BF16


def test_scores_have_one_dtype(device, autocast):
    inputs = make_inputs([3, 5], dtype=torch.float32).to(device)
    mixed = tuple(x.to(BF16) if place % 2 else x for place, x in enumerate(inputs.floats))
    with autocast():
        out = type(inputs)(mixed, inputs.indices, inputs.max_history, inputs.num_heads).score()
    dtype = BF16 if device.type == "cuda" else torch.float32
    cast = tuple(x.to(dtype) for x in mixed)
    wanted = type(inputs)(cast, inputs.indices, inputs.max_history, inputs.num_heads).score()
    assert out.dtype == dtype
    assert torch.equal(out, wanted)


def test_float64_is_left_alone(device, autocast):
    qkv, bounds, longest = packed([3], 1, 4, dtype=torch.float64, device=device)
    with autocast():
        assert varlen_attention(*qkv, bounds, longest).dtype == torch.float64


def test_outside_other_dtypes_are_refused_as_before(device):
    x = torch.zeros(2, 2, device=device)
    with pytest.raises(TypeError, match="residual must be bfloat16"):
        dropout_residual(x.to(BF16), x, dropout_p=0.0, rng=None, site=0)


def test_compiles_inside_without_a_break(device, autocast):
    qkv, bounds, longest = packed([4, 2], 1, 8, device=device)

    def call(q, k, v):
        with autocast():
            out = varlen_attention(q, k, v, bounds, longest)
            return dropout_residual(out, q, dropout_p=0.0, rng=None, site=0)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*qkv), call(*qkv))
