"""Dropout with a residual: values, gradients, bits, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernels import HALF, assert_as_accurate_as, drawn, needs_kernel, run_with_gradients

from mfgan.ops import dropout_residual, reference

RNG = torch.tensor([-3, 1 << 50])
ROOT = Path(__file__).parents[2]
SHAPES = [(7, 50), (3, 5, 16), (1, 1), (0, 8), (4, 0), (33, 129), (9,)]


def made(shape, dtype, device, seed=0):
    return drawn(shape, dtype=dtype, device=device, seed=seed)


@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_accurate_as_plain_pytorch(shape, dtype, with_residual, device):
    options = {"dropout_p": 0.3, "rng": RNG.to(device), "site": 4}
    inputs = [made(shape, dtype, device, seed) for seed in range(1 + with_residual)]
    weight = made(shape, torch.float64, device, 7)

    def run(function, cast):
        call = lambda x, residual=None: function(x, residual, **options)  # noqa: E731
        return run_with_gradients(call, [x.to(cast) for x in inputs], weight)

    def plain(x, residual, **options):
        rows = [None if y is None else y.reshape(-1, x.shape[-1]) for y in (x, residual)]
        return reference.dropout_residual(*rows, **options).view(x.shape)

    if 0 in shape[-1:]:
        assert dropout_residual(inputs[0], None, **options).shape == shape
        return
    results = run(dropout_residual, dtype), run(plain, dtype), run(plain, torch.float64)
    for result in zip(*results, strict=True):
        assert_as_accurate_as(*result)


def test_gradcheck(device):
    x, residual = (made((3, 4), torch.float64, device, s).requires_grad_() for s in (1, 2))
    options = {"dropout_p": 0.4, "rng": RNG.to(device), "site": 1}
    assert torch.autograd.gradcheck(lambda *xs: dropout_residual(*xs, **options), (x, residual))


@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("rows", [0, 5])
def test_opcheck(rows, with_residual, device):
    needs_kernel("dropout_residual", device)
    x, residual = (made((rows, 4), torch.float32, device, s).requires_grad_() for s in (1, 2))
    torch.library.opcheck(
        torch.ops.mfgan.dropout_residual.default,
        (x, residual if with_residual else None, RNG.to(device)),
        {"dropout_p": 0.2, "site": 3},
    )


@pytest.mark.parametrize("columns", [1, 16, 50, 64, 129])
def test_bits_are_the_references(columns, device):
    x = torch.ones(300, columns, device=device)
    options = {"dropout_p": 0.25, "rng": RNG.to(device), "site": 1 << 33}
    out = dropout_residual(x, None, **options)
    assert torch.equal(out, reference.dropout_residual(x, None, **options))
    assert abs((out > 0).float().mean().item() - 0.75) < 4 * (0.19 / x.numel()) ** 0.5


def test_seed_offset_and_site_each_give_other_bits(device):
    x = torch.ones(20, 50, device=device)
    options = {"dropout_p": 0.5, "rng": torch.tensor([1, 2], device=device), "site": 3}
    first = dropout_residual(x, None, **options)
    assert torch.equal(first, dropout_residual(x, None, **options))
    for other in ({"rng": options["rng"] + 1}, {"rng": options["rng"].flip(0)}, {"site": 4}):
        assert not torch.equal(first, dropout_residual(x, None, **{**options, **other}))


@pytest.mark.parametrize("options", [{"dropout_p": 0.0, "rng": RNG}, {"dropout_p": 0.5}], ids=str)
def test_without_dropout_it_is_the_sum(options, device):
    x, residual = (made((3, 4), torch.float32, device, s) for s in (1, 2))
    options = {"rng": None, **options}
    assert torch.equal(dropout_residual(x, residual, site=0, **options), x + residual)
    assert torch.equal(dropout_residual(x, None, site=0, **options), x)


def test_rows_far_apart_in_memory_give_the_same_bits(device):
    x = made((40, 30), torch.float32, device)
    options = {"dropout_p": 0.5, "rng": RNG.to(device), "site": 0}
    strided = x.t().contiguous().t()
    wanted = dropout_residual(x, x, **options)
    assert torch.equal(dropout_residual(strided, strided, **options), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_thread_count_changes_no_bit(dtype):
    x = made((5000, 50), dtype, "cpu")
    before = torch.get_num_threads()
    call = lambda *xs: dropout_residual(*xs, dropout_p=0.2, rng=RNG, site=0)  # noqa: E731
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run_with_gradients(call, [x, x], x))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert torch.equal(got, wanted)


SAME_BITS = """
import torch
from mfgan.ops import dropout_residual, reference
for dtype in (torch.float32, torch.float64):
    for columns in (1, 3, 4, 8, 15, 16, 31, 50, 64, 129):
        x, residual, grad = torch.randn(3, 40, columns, dtype=dtype)
        options = {"dropout_p": 0.3, "rng": torch.tensor([5, 6]), "site": 7}
        for add in (residual, None):
            leaf = x.clone().requires_grad_()
            out = dropout_residual(leaf, add, **options)
            assert torch.equal(out, reference.dropout_residual(x, add, **options))
            out.backward(grad)
            assert torch.equal(leaf.grad, reference.dropout_residual(grad, None, **options))
"""


@pytest.mark.parametrize("isa", ["base", "v3", "v4"])
def test_every_instruction_set_gives_the_references_bits(isa):
    needs_kernel("dropout_residual", torch.device("cpu"))
    environment = {**os.environ, "MFGAN_ISA": isa}
    command = [sys.executable, "-W", "error", "-c", SAME_BITS]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)


def test_compiles_without_a_break(device):
    x, residual = (made((3, 4, 5), torch.float32, device, s) for s in (1, 2))
    rng = RNG.to(device)

    def call(x, residual, rng):
        return dropout_residual(x, residual, dropout_p=0.5, rng=rng, site=0) * 2

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    weight = torch.ones_like(x)
    wanted = run_with_gradients(lambda *xs: call(*xs, rng), [x, residual], weight)
    got = run_with_gradients(lambda *xs: compiled(*xs, rng), [x, residual], weight)
    for actual, expected in zip(got, wanted, strict=True):
        assert torch.equal(actual, expected)


X = torch.zeros(5, 4)
WRONG = {
    "x must have a dimension, got \\(\\)": {"x": X.sum()},
    "x must be float32, float64, bfloat16 or float16, got int64": {"x": X.long()},
    "residual must have the shape of x \\(5, 4\\), got \\(4, 4\\)": {"residual": X[:4]},
    "residual must be float32, got float64": {"residual": X.double()},
    "residual must be on cpu, got meta": {"residual": X.to("meta")},
    "dropout_p must be in \\[0, 1\\), got 1.5": {"dropout_p": 1.5},
    "rng must be \\(2,\\), got \\(1,\\)": {"rng": RNG[:1]},
    "rng must be int64, got int32": {"rng": RNG.int()},
    "rng must be on cpu, got meta": {"rng": RNG.to("meta")},
}


@pytest.mark.parametrize("message", WRONG)
def test_refuses(message):
    call = {"x": X, "residual": X, "dropout_p": 0.1, "rng": RNG, "site": 0, **WRONG[message]}
    with pytest.raises((ValueError, TypeError), match=f"^dropout_residual: {message}$"):
        dropout_residual(**call)


@pytest.mark.parametrize("message", [m for m in WRONG if "meta" not in m])
def test_the_operator_itself_refuses(message):
    """The kernels never trust that the Python function was the caller."""
    needs_kernel("dropout_residual", torch.device("cpu"))
    call = {"x": X, "residual": X, "dropout_p": 0.1, "rng": RNG, "site": 0, **WRONG[message]}
    with pytest.raises(ValueError, match=r"^dropout_residual: "):
        torch.ops.mfgan.dropout_residual.default(**call)


@pytest.mark.parametrize("with_residual", [True, False])
def test_eager_and_registered_gradients_are_the_same(with_residual, device):
    needs_kernel("dropout_residual", device)
    inputs = [made((30, 17), torch.float32, device, s) for s in range(1 + with_residual)]
    weight = made((30, 17), torch.float32, device, 9)
    options = {"dropout_p": 0.4, "site": 2}
    rng = RNG.to(device)

    def registered(x, residual=None):
        return torch.ops.mfgan.dropout_residual.default(x, residual, rng, **options)

    def eager(x, residual=None):
        return dropout_residual(x, residual, rng=rng, **options)

    wanted = run_with_gradients(registered, inputs, weight)
    for got, expected in zip(run_with_gradients(eager, inputs, weight), wanted, strict=True):
        assert torch.equal(got, expected)
    constant, leaf = inputs[0], weight.clone().requires_grad_()
    eager(constant, leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(leaf))
