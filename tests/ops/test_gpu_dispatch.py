"""Which way the operators go for a GPU's tensors, shown by tensors that only say they are there."""

from importlib import import_module

import pytest
import torch
from score_inputs import make_inputs
from torch._subclasses.fake_tensor import FakeTensorMode

from mfgan.ops import (
    causal_convolution,
    dropout_residual,
    factor_score,
    library,
    varlen_attention,
)


def there(*shape, dtype):
    return torch.empty(shape, dtype=dtype, device="cuda")


def attend(dtype):
    q, k, v = (there(5, 2, 4, dtype=dtype) for _ in range(3))
    return varlen_attention(q, k, v, there(3, dtype=torch.int32), 3)


def drop(dtype):
    x, rng = there(3, 4, dtype=dtype), there(2, dtype=torch.int64)
    return dropout_residual(x, x, dropout_p=0.5, rng=rng, site=0)


def convolve(dtype):
    x, taps = there(5, 4, dtype=dtype), there(3, 4, dtype=dtype)
    return causal_convolution(x, taps, there(3, dtype=torch.int32))


def score(dtype):
    inputs = make_inputs([3, 2])
    floats = [there(*x.shape, dtype=dtype) for x in inputs.floats]
    indices = [there(*x.shape, dtype=x.dtype) for x in inputs.indices]
    return factor_score(*floats, *indices, 4, num_heads=2)


OPERATORS = {
    "attention": (attend, "reference.varlen_attention"),
    "convolution": (convolve, "reference_convolution.causal_convolution"),
    "dropout": (drop, "reference.dropout_residual"),
    "factor_score": (score, "reference_score.factor_score"),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_kernels_serve_all_but_float64(name, dtype, monkeypatch):
    call, plain = OPERATORS[name]
    module = import_module(f"mfgan.ops.{name}")
    if not module._DEVICES:
        pytest.skip("the operators are not built")
    monkeypatch.setattr(module, "_DEVICES", module._DEVICES | {"cuda"})
    called, reference = [], import_module(f"mfgan.ops.{plain.partition('.')[0]}")

    def counted(x, *inputs, **keywords):
        called.append(1)
        return torch.empty_like(x)

    monkeypatch.setattr(reference, plain.partition(".")[2], counted)
    with FakeTensorMode(), torch.no_grad():
        out = call(dtype)
    assert out.device.type == "cuda"
    assert out.dtype == dtype
    assert bool(called) == (dtype == torch.float64)


@pytest.mark.parametrize(
    ("dtype", "large", "kilobytes", "served"),
    [
        (torch.float32, False, 99, True),
        (torch.float32, True, 99, False),
        (torch.float32, True, 163, True),
        (torch.bfloat16, True, 99, True),
        (torch.float64, False, 227, False),
    ],
    ids=str,
)
def test_float32_of_large_sizes_needs_the_shared_memory(
    dtype, large, kilobytes, served, monkeypatch
):
    monkeypatch.setattr(library, "_shared_memory", lambda device: kilobytes << 10)
    with FakeTensorMode():
        x = there(2, dtype=dtype)
        assert library.serves(frozenset({"cpu", "cuda"}), x, large=large) == served
        assert not library.serves(frozenset({"cpu"}), x, large=large)
    assert library.serves(frozenset({"cpu"}), torch.empty(2, dtype=dtype), large=large)


@pytest.mark.parametrize(
    ("dim", "num_heads", "width", "large"),
    [(64, 1, 1024, False), (256, 4, 256, False), (72, 2, 264, True), (128, 1, 64, True)],
)
def test_sizes_of_factor_score_that_are_large(dim, num_heads, width, large, monkeypatch):
    asked = []
    monkeypatch.setattr(library, "serves", lambda *_, large: asked.append(large))
    inputs = make_inputs([3, 2], dim=dim, heads=num_heads, width=width)
    factor_score(*inputs.floats, *inputs.indices, 4, num_heads=num_heads)
    assert asked == [large]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_gradients_of_factor_score_are_there_in_the_shapes_of_its_inputs(dtype):
    if not import_module("mfgan.ops.factor_score")._DEVICES:
        pytest.skip("the operators are not built")
    op = torch.ops.mfgan.factor_score_backward.default
    with FakeTensorMode():
        inputs = make_inputs([3, 2])
        floats = [there(*x.shape, dtype=dtype) for x in inputs.floats]
        indices = [there(*x.shape, dtype=x.dtype) for x in inputs.indices]
        grad, rng = there(5, 2, 2, dtype=dtype), there(2, dtype=torch.int64)
        keywords = {"num_heads": 2, "dropout_p": 0.1, "site": 0}
        grads = op(grad, *floats, *indices, 4, rng, **keywords)
    for x, like in zip(grads, floats, strict=True):
        assert (x.shape, x.dtype, x.device) == (like.shape, like.dtype, like.device)
