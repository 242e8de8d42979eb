import torch
from torch.nn import functional as F

from mfgan.models.convolution import CausalConvolution
from mfgan.models.layers import unit_rows


def test_rows_of_length_one_are_torchs_and_so_are_their_gradients():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, dtype=torch.float64, generator=rng).requires_grad_()
    weights = torch.randn(7, 5, dtype=torch.float64, generator=rng)
    torch.testing.assert_close(unit_rows(x), F.normalize(x, dim=-1))
    (mine,) = torch.autograd.grad((weights * unit_rows(x)).sum(), x)
    (theirs,) = torch.autograd.grad((weights * F.normalize(x, dim=-1)).sum(), x)
    torch.testing.assert_close(mine, theirs)


def test_a_row_of_zeros_stays_one():
    assert unit_rows(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


def test_a_convolution_begins_as_the_identity():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    layer = CausalConvolution(3, num_taps=4)
    assert torch.equal(layer(x, torch.tensor([0, 2, 5], dtype=torch.int32)), x)
    with torch.no_grad():
        layer.taps[1] = 1.0
    moved = layer(x, torch.tensor([0, 2, 5], dtype=torch.int32))
    assert torch.equal(moved[[0, 2]], x[[0, 2]])
    torch.testing.assert_close(moved[1], x[1] + x[0])
