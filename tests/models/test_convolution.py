"""The convolution beside attention: what it computes, its gradients, and where sessions end."""

import pytest
import torch

from mfgan.models import convolution
from mfgan.models.convolution import CausalConvolution


def bounds_of(lengths):
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)


def made(num_taps, lengths, width=3):
    rng = torch.Generator().manual_seed(num_taps)
    layer = CausalConvolution(width, num_taps).double()
    torch.nn.init.normal_(layer.taps, generator=rng)
    x = torch.randn(sum(lengths), width, dtype=torch.float64, generator=rng)
    return layer, x, bounds_of(lengths)


def by_its_formula(layer, x, bounds):
    out = x.clone()
    for start, end in zip(bounds.tolist(), bounds.tolist()[1:], strict=False):
        for place in range(start, end):
            for tap in range(min(len(layer.taps), place - start + 1)):
                out[place] += layer.taps[tap] * x[place - tap]
    return out


@pytest.mark.parametrize("num_taps", [1, 3, 9])
@pytest.mark.parametrize("lengths", [(5, 1, 12, 3), (1,), (0, 2, 0, 4, 0)], ids=str)
@pytest.mark.parametrize("rows", [4, 512])
def test_it_is_its_formula_within_each_session(num_taps, lengths, rows, monkeypatch):
    monkeypatch.setattr(convolution, "_ROWS", rows)
    layer, x, bounds = made(num_taps, lengths)
    torch.testing.assert_close(layer(x, bounds), by_its_formula(layer, x, bounds))
    assert torch.autograd.gradcheck(
        lambda x, taps: torch.func.functional_call(layer, {"taps": taps}, (x, bounds)),
        (x.requires_grad_(), layer.taps),
    )


def test_it_begins_as_the_identity_and_takes_no_tokens():
    layer = CausalConvolution(3, 4)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x, bounds_of((2, 3))), x)
    assert layer(x[:0], bounds_of(())).shape == (0, 3)
    assert layer(x[:0], bounds_of((0, 0))).shape == (0, 3)


def test_it_keeps_the_dtype_of_what_it_reads():
    layer, x, bounds = made(3, (4, 2))
    lowered = layer(x.bfloat16(), bounds)
    assert lowered.dtype == torch.bfloat16
    torch.testing.assert_close(lowered.double(), layer(x, bounds), atol=0.1, rtol=0.05)
