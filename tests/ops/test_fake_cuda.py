"""The operators and their backward on CUDA tensors without data: what a compiler learns of them."""

import pytest
import torch
from kernels import needs_kernel
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

OPS = torch.ops.mfgan


def floats(*shape, dtype):
    return torch.empty(shape, dtype=dtype, device="cuda")


def integers(*shape, dtype=torch.int64):
    return torch.empty(shape, dtype=dtype, device="cuda")


def attention(dtype):
    qkv = [floats(30, 2, 16, dtype=dtype) for _ in range(3)]
    bounds, rng = integers(4, dtype=torch.int32), integers(2)
    bias = floats(2, 9, dtype=dtype)
    keywords = {"causal": True, "scale": 0.25, "dropout_p": 0.1, "site": 0, "allow_tf32": True}

    def call(*x):
        rest = (bounds, 10, x[3], rng)
        out, lse = OPS.varlen_attention.default(*x[:3], *rest, **keywords)
        grads = OPS.varlen_attention_backward.default(out, *x[:3], out, lse, *rest, **keywords)
        return out, *grads

    return call, [*qkv, bias], (30, 2, 16), dtype


def dropout(dtype):
    rng = integers(2)

    def call(x):
        out = OPS.dropout_residual.default(x, x, rng, dropout_p=0.1, site=1)
        return out, OPS.dropout_residual_backward.default(out, rng, dropout_p=0.1, site=1)

    return call, [floats(5, 8, dtype=dtype)], (5, 8), dtype


def convolution(dtype):
    bounds = integers(4, dtype=torch.int32)

    def call(x, taps):
        out = OPS.causal_convolution.default(x, taps, bounds)
        return out, *OPS.causal_convolution_backward.default(out, x, taps, bounds)

    return call, [floats(30, 8, dtype=dtype), floats(3, 8, dtype=dtype)], (30, 8), dtype


def choice(dtype):
    offsets = integers(4)

    def call(x):
        lse = OPS.choice_logsumexp.default(x, offsets, no_click=True)
        return lse, OPS.choice_logsumexp_backward.default(lse, x, offsets, lse)

    return call, [floats(11, dtype=dtype)], (3,), torch.float32


def score(dtype):
    factors, rows, dim, width, distances = 2, 20, 16, 32, 6
    shapes = [(factors, rows, dim)] * 4 + [(factors, distances, dim)] * 2
    shapes += [(factors, dim, dim), (factors, width, dim), (factors, width), (factors, dim, width)]
    shapes += [(factors, dim), (factors, dim), (factors,)]
    indices = [integers(30), integers(7, 3), integers(7), integers(4, dtype=torch.int32)]
    keywords = {"num_heads": 2, "dropout_p": 0.1, "site": 2, "allow_tf32": True}

    def call(*x):
        rest = (*indices, 5, integers(2))
        out = OPS.factor_score.default(*x, *rest, **keywords)
        return out, *OPS.factor_score_backward.default(out, *x, *rest, **keywords)

    return call, [floats(*shape, dtype=dtype) for shape in shapes], (7, 3, factors), dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("varlen_attention", attention),
        ("dropout_residual", dropout),
        ("causal_convolution", convolution),
        ("choice_logsumexp", choice),
        ("factor_score", score),
    ],
)
def test_forward_and_backward_trace_on_cuda(name, made, dtype):
    needs_kernel(name, torch.device("cpu"))
    with FakeTensorMode(allow_non_fake_inputs=True):
        call, inputs, shape, out_dtype = made(dtype)

        graph = make_fx(call)(*inputs)
        out, *grads = call(*inputs)
    assert out.shape == shape
    assert out.dtype == out_dtype
    assert out.device.type == "cuda"
    for grad, x in zip(grads, inputs, strict=True):
        assert (grad.shape, grad.dtype, grad.device) == (x.shape, x.dtype, x.device)
    called = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    assert {f"mfgan.{name}.default", f"mfgan.{name}_backward.default"} <= called
