"""The GPU's causal_convolution, emulated: its formula and gradients, sessions apart, any schedule."""

import pytest
import torch
from emulated import SCHEDULES, emulated
from kernels import assert_as_accurate_as, drawn

from mfgan.ops import reference_convolution

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LENGTHS = [(1,), (0, 2, 0, 4, 0), (5, 1, 12, 3), (300, 70, 3)]


def made(num_taps, lengths, width, dtype):
    bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    x, grad = (drawn((sum(lengths), width), dtype=dtype, seed=seed) for seed in (1, 2))
    return x, drawn((num_taps, width), dtype=dtype, seed=3), bounds, grad


def plain(x, taps, bounds, grad, dtype):
    leaves = [t.to(dtype).requires_grad_() for t in (x, taps)]
    out = reference_convolution.causal_convolution(*leaves, bounds)
    return out.detach(), *torch.autograd.grad(out, leaves, grad.to(dtype))


def run(ops, x, taps, bounds, grad):
    out = ops.causal_convolution(x, taps, bounds)
    return out, *ops.causal_convolution_backward(grad, x, taps, bounds)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 50, 128])
@pytest.mark.parametrize("num_taps", [1, 10, 17])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_is_as_accurate_as_pytorch(lengths, num_taps, width, dtype):
    given = made(num_taps, lengths, width, dtype)
    results = run(emulated(), *given)
    expected, exact = plain(*given, dtype), plain(*given, torch.float64)
    for mine, theirs, right in zip(results, expected, exact, strict=True):
        assert_as_accurate_as(mine, theirs, right)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_same_bits_on_any_schedule(schedule):
    given = made(10, (40, 0, 33, 7), 24, torch.float32)
    for mine, first in zip(run(emulated(*schedule), *given), run(emulated(), *given), strict=True):
        assert torch.equal(mine, first)


def test_what_another_session_holds_is_never_used():
    x, taps, bounds, grad = made(9, (6, 3, 8), 16, torch.float32)
    clean = run(emulated(), x, taps, bounds, grad)
    spoilt, other = x.clone(), grad.clone()
    spoilt[:6] = other[:6] = torch.nan
    spoilt[9:] = other[9:] = torch.nan
    out, grad_x, _grad_taps = run(emulated(), spoilt, taps, bounds, other)
    assert torch.equal(out[6:9], clean[0][6:9])
    assert torch.equal(grad_x[6:9], clean[1][6:9])


def test_rows_that_start_off_16_bytes_and_transposed_ones():
    x, taps, bounds, grad = made(4, (5, 8), 8, torch.float32)
    expected = run(emulated(), x, taps, bounds, grad)
    off = torch.cat([torch.zeros(1), x.flatten()])[1:].view(x.shape)
    assert off.data_ptr() % 16
    for other in (off, x.T.contiguous().T):
        for mine, right in zip(run(emulated(), other, taps, bounds, grad), expected, strict=True):
            torch.testing.assert_close(mine, right)


def test_more_runs_than_the_grid_holds():
    tokens = (1 << 14) * 128 * 4 + 9
    x = torch.ones(tokens, 1)
    out = emulated().causal_convolution(x, torch.ones(2, 1), torch.tensor([0, tokens]).int())
    assert out[0] == 2
    assert bool((out[1:] == 3).all())


@pytest.mark.parametrize("shape", [(0, 8), (6, 0)], ids=str)
def test_nothing_gives_nothing_and_no_gradient(shape):
    x, bounds = torch.zeros(shape), torch.tensor([0, shape[0]]).int()
    taps = torch.ones(3, shape[1])
    out, grad_x, grad_taps = run(emulated(), x, taps, bounds, x)
    assert out.shape == grad_x.shape == shape
    assert torch.equal(grad_taps, torch.zeros_like(taps))


def test_bounds_that_are_wrong_are_not_left():
    # A GPU's bounds are not read back, so what is wrong in them must not lead out of the arrays.
    given = made(3, (7,), 4, torch.float32)
    for wrong in ([0, 3], [0, 900], [-50, 7], [5, 2, 9]):
        out, *_ = run(emulated(), *given[:2], torch.tensor(wrong).int(), given[3])
        assert out.shape == given[0].shape


def test_errors():
    x, taps, bounds, grad = made(3, (7,), 4, torch.float32)
    ops = emulated()
    with pytest.raises(ValueError, match="x must be float32, bfloat16 or float16 on a GPU"):
        ops.causal_convolution(x.double(), taps.double(), bounds)
    with pytest.raises(ValueError, match="must end at total_tokens 7, got no session"):
        ops.causal_convolution(x, taps, bounds[:1])
    with pytest.raises(ValueError, match=r"grad_out must be as x, got \(6, 4\)"):
        ops.causal_convolution_backward(grad[1:], x, taps, bounds)
