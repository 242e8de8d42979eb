"""choice_logsumexp: accuracy and gradients, gradcheck, opcheck, overflow, errors, compile."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from mfgan.ops import choice_logsumexp, library, reference_choice

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
FLOOR = {torch.float32: 16, torch.float64: 16, torch.bfloat16: 1, torch.float16: 1}
SIZES = [[], [0], [1], [3, 0, 1], [7, 10, 2, 0, 0, 33], [1] * 300]

needs_kernel = pytest.mark.skipif(
    "cpu" not in library.devices("choice_logsumexp"), reason="the CPU library is not built"
)


def make(sizes: list[int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    offsets = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int64)
    values = torch.randn(int(offsets[-1]), generator=torch.Generator().manual_seed(3)) * 4
    return values.to(dtype), offsets


def exact(values: Tensor, offsets: Tensor, no_click: bool) -> tuple[Tensor, Tensor]:
    """The result and the gradient of its sum, in float64 and set by set."""
    wide = values.double()
    rows = [wide[a:b] for a, b in pairwise(offsets)]
    option = wide.new_zeros(1 if no_click else 0)
    result = [torch.cat([row, option]).logsumexp(0) for row in rows]
    grads = [(row - total).exp() for row, total in zip(rows, result, strict=True)]
    return torch.stack([wide.new_zeros(()), *result])[1:], torch.cat([wide[:0], *grads])


@pytest.mark.parametrize("no_click", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=len)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_result_and_gradient_are_as_near_float64_as_plain_torch(dtype, sizes, no_click):
    values, offsets = make(sizes, dtype)
    wanted, wanted_grad = exact(values, offsets, no_click)
    leaf = values.clone().requires_grad_()
    got = choice_logsumexp(leaf, offsets, no_click=no_click)
    assert got.dtype == dtype
    plain = values.clone().requires_grad_()
    other = reference_choice.choice_logsumexp(plain, offsets, no_click=no_click)
    finite = wanted.isfinite()
    assert torch.equal(got.double()[~finite], wanted[~finite])
    got[finite].sum().backward()
    other[finite].sum().backward()
    for mine, theirs, right in (
        (got.detach()[finite], other.detach()[finite], wanted[finite]),
        (leaf.grad, plain.grad, wanted_grad),
    ):
        if right.numel() == 0:
            continue
        error, plain_error = (mine - right).abs().max(), (theirs - right).abs().max()
        floor = FLOOR[dtype] * torch.finfo(dtype).eps * right.abs().max()
        assert error <= 2 * plain_error + floor


@pytest.mark.parametrize("no_click", [True, False])
def test_gradcheck(no_click):
    values, offsets = make([3, 1, 5])
    values.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda one: choice_logsumexp(one, offsets, no_click=no_click), (values,)
    )


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opcheck(dtype):
    values, offsets = make([3, 0, 5], dtype)
    torch.library.opcheck(
        torch.ops.mfgan.choice_logsumexp.default,
        (values.requires_grad_(), offsets),
        {"no_click": True},
    )


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_utilities_do_not_overflow(size):
    values = torch.tensor([size, size, -size, size], requires_grad=True)
    offsets = torch.tensor([0, 2, 4])
    got = choice_logsumexp(values, offsets)
    top = max(size, 0.0)
    two, one = (np.log(2), 0.0) if size > 0 else (0.0, 1e4)
    assert got.tolist() == pytest.approx([top + two, top + one])
    got.sum().backward()
    assert values.grad.isfinite().all()


def test_a_set_does_not_see_another_and_not_its_own_order():
    values, offsets = make([4, 6])
    alone = choice_logsumexp(values[4:], torch.tensor([0, 6]))
    turned = choice_logsumexp(values[4:].flip(0), torch.tensor([0, 6]))
    both = choice_logsumexp(torch.cat([values[:4] * 100, values[4:]]), offsets)
    assert both[1] == alone[0] == pytest.approx(float(turned[0]), rel=1e-15)


@pytest.mark.parametrize(
    ("values", "offsets", "kind", "message"),
    [
        (torch.zeros(2, 1), torch.tensor([0, 2]), ValueError, r"\(num_rows,\), got \(2, 1\)"),
        (torch.zeros(2).int(), torch.tensor([0, 2]), TypeError, "utilities must be float32"),
        (torch.zeros(2), torch.zeros(0).long(), ValueError, r"\(num_sets \+ 1,\), got \(0,\)"),
        (torch.zeros(2), torch.tensor([0, 2]).int(), TypeError, "must be int64, got int32"),
        (torch.zeros(2), torch.tensor([1, 2]), ValueError, "offsets must rise from 0 to 2"),
        (torch.zeros(2), torch.tensor([0, 3]), ValueError, "offsets must rise from 0 to 2"),
        (torch.zeros(2), torch.tensor([0, 2, 1, 2]), ValueError, "offsets must rise from 0 to 2"),
        (torch.zeros(2), torch.tensor([0, 2], device="meta"), ValueError, "on cpu, got meta"),
    ],
)
def test_errors(values, offsets, kind, message):
    with pytest.raises(kind, match=f"choice_logsumexp: .*{message}"):
        choice_logsumexp(values, offsets)


@needs_kernel
def test_backward_checks_what_it_is_given():
    values, offsets = make([2, 1], torch.float32)
    short = torch.zeros(1)
    with pytest.raises(ValueError, match=r"must be \(num_sets,\) with num_sets 2, got \(1,\)"):
        torch.ops.mfgan.choice_logsumexp_backward(short, values, offsets, short)


@needs_kernel
@pytest.mark.slow
def test_compiles_whole():
    values, offsets = make([3, 2], torch.float32)
    compiled = torch.compile(
        lambda one: choice_logsumexp(one * 2, offsets).sum(), fullgraph=True, backend="aot_eager"
    )
    leaf, plain = values.clone().requires_grad_(), values.clone().requires_grad_()
    compiled(leaf).backward()
    choice_logsumexp(plain * 2, offsets).sum().backward()
    assert torch.equal(leaf.grad, plain.grad)
