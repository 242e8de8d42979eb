"""The GPU's dropout_residual, emulated: the CPU's bits, odd sizes, errors."""

import pytest
import torch
from emulated import emulated
from kernels import drawn

from mfgan.ops import dropout_residual, reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
RNG = torch.tensor([3, 1 << 33])
DROPOUT = {"dropout_p": 0.4, "site": 7}


@pytest.mark.parametrize("with_residual", [True, False], ids=["residual", "alone"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (5, 64), (300, 50), (3, 0), (0, 8)], ids=str)
def test_equals_the_cpu(shape, dtype, with_residual):
    x = drawn(shape, dtype=dtype)
    residual = drawn(shape, dtype=dtype, seed=2) if with_residual else None
    out = emulated().dropout_residual(x, residual, RNG, **DROPOUT)
    expected = dropout_residual(x, residual, rng=RNG, **DROPOUT)
    torch.testing.assert_close(out, expected)
    assert torch.equal(out == 0, expected == 0)


def test_parts_of_rows_that_start_off_16_bytes():
    x = drawn((6, 9), dtype=torch.float32).flatten()[1:49].view(6, 8)
    out = emulated().dropout_residual(x, x, RNG, **DROPOUT)
    torch.testing.assert_close(out, reference.dropout_residual(x, x, rng=RNG, **DROPOUT))


def test_more_elements_than_the_grid_holds():
    x = torch.ones((1 << 14) * 256 + 999, 1)
    out = emulated(os_threads=2).dropout_residual(x, None, RNG, **DROPOUT)
    assert torch.equal(out, dropout_residual(x, None, rng=RNG, **DROPOUT))


def test_backward_is_the_same_mask():
    grad = drawn((5, 12), dtype=torch.float32)
    ops = emulated()
    expected = ops.dropout_residual(grad, None, RNG, **DROPOUT)
    assert torch.equal(ops.dropout_residual_backward(grad, RNG, **DROPOUT), expected)


def test_errors():
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="x must be float32, bfloat16 or float16 on a GPU"):
        emulated().dropout_residual(x, None, RNG, **DROPOUT)
