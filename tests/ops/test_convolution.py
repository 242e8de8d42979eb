"""causal_convolution: its formula, gradients, bounds, errors, with a kernel and without one."""

import pytest
import torch

from mfgan.ops import causal_convolution, library, reference_convolution

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LENGTHS = [(), (1,), (0, 2, 0, 4, 0), (5, 1, 12, 3), (300, 700)]

needs_kernel = pytest.mark.skipif(
    "cpu" not in library.devices("causal_convolution"), reason="the CPU library is not built"
)


def made(num_taps, lengths, width=37, dtype=torch.float64):
    rng = torch.Generator().manual_seed(num_taps)
    x = torch.randn(sum(lengths), width, dtype=torch.float64, generator=rng)
    taps = torch.randn(num_taps, width, dtype=torch.float64, generator=rng)
    ends = torch.tensor(lengths, dtype=torch.int64).cumsum(0)
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
    return x.to(dtype), taps.to(dtype), bounds.int()


def by_its_formula(x, taps, bounds):
    out = x + 0 * taps.sum()
    for start, end in zip(bounds.tolist(), bounds.tolist()[1:], strict=False):
        for lag in range(min(len(taps), end - start)):
            out[start + lag : end] += taps[lag] * x[start : end - lag]
    return out


@pytest.mark.parametrize("num_taps", [1, 3, 9])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("way", [causal_convolution, reference_convolution.causal_convolution])
def test_it_is_its_formula_within_each_session(way, num_taps, lengths):
    x, taps, bounds = made(num_taps, lengths)
    torch.testing.assert_close(way(x, taps, bounds), by_its_formula(x, taps, bounds))


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("way", [causal_convolution, reference_convolution.causal_convolution])
def test_its_gradients_are_those_of_the_formula(way, lengths):
    x, taps, bounds = (t.requires_grad_(t.is_floating_point()) for t in made(4, lengths))
    weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    mine = torch.autograd.grad((weights * way(x, taps, bounds)).sum(), (x, taps))
    theirs = torch.autograd.grad((weights * by_its_formula(x, taps, bounds)).sum(), (x, taps))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("way", [causal_convolution, reference_convolution.causal_convolution])
def test_sums_are_rounded_once(way, dtype):
    x, taps, bounds = (t.requires_grad_(t.is_floating_point()) for t in made(9, (70, 2), 5, dtype))
    exact = [t.detach().double().requires_grad_() for t in (x, taps)]
    wanted = by_its_formula(*exact, bounds)
    got = way(x, taps, bounds)
    assert got.dtype == dtype
    near = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 20 * torch.finfo(torch.float32).eps}
    torch.testing.assert_close(got.double(), wanted, **near)
    got.sum().backward()
    wanted.sum().backward()
    for mine, right in zip((x, taps), exact, strict=True):
        # Without a kernel autograd adds the taps' parts in the wide type, as the kernel does.
        torch.testing.assert_close(mine.grad.double(), right.grad, rtol=near["rtol"], atol=1e-4)


@needs_kernel
def test_the_same_bits_on_any_number_of_threads():
    x, taps, bounds = made(5, (900, 1, 2000, 40), 128, torch.float32)
    results, threads = [], torch.get_num_threads()
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            leaves = x.clone().requires_grad_(), taps.clone().requires_grad_()
            out = causal_convolution(*leaves, bounds)
            out.square().sum().backward()
            results.append((out.detach(), leaves[0].grad, leaves[1].grad))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_tensors_that_are_not_contiguous_are_read_as_they_are():
    x, taps, bounds = made(3, (4, 6))
    wanted = causal_convolution(x, taps, bounds)
    transposed = x.T.contiguous().T, taps.T.contiguous().T
    assert not transposed[0].is_contiguous()
    assert torch.equal(causal_convolution(*transposed, bounds), wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(6)}, r"x must be \(total_tokens, width\), got \(6,\)"),
        ({"taps": torch.zeros(3, 4)}, r"with width 5, got \(3, 4\)"),
        ({"taps": torch.zeros(0, 5)}, r"with width 5, got \(0, 5\)"),
        ({"cu_seqlens": torch.zeros(0).int()}, r"must be \(num_sessions \+ 1,\), got \(0,\)"),
        ({"cu_seqlens": torch.tensor([0, 7]).int()}, "got 7"),
        ({"cu_seqlens": torch.tensor([1, 6]).int()}, "must start at 0, got 1"),
        ({"cu_seqlens": torch.tensor([0, 4, 2, 6]).int()}, "must never decrease, got 4 before 2"),
    ],
)
def test_what_would_reach_foreign_memory_is_an_error(change, message):
    given = {"x": torch.zeros(6, 5), "taps": torch.zeros(3, 5)}
    given["cu_seqlens"] = torch.tensor([0, 2, 6]).int()
    with pytest.raises(ValueError, match=message):
        causal_convolution(**(given | change))


def test_a_wrong_dtype_is_an_error():
    x, taps, bounds = made(2, (3,))
    with pytest.raises(TypeError, match="taps must be float64, got float32"):
        causal_convolution(x, taps.float(), bounds)
    with pytest.raises(TypeError, match="cu_seqlens must be int32, got int64"):
        causal_convolution(x, taps, bounds.long())


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opcheck(dtype):
    x, taps, bounds = made(3, (4, 0, 2), 5, dtype)
    given = (x.requires_grad_(), taps.requires_grad_(), bounds)
    torch.library.opcheck(torch.ops.mfgan.causal_convolution.default, given)
