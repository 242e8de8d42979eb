"""The GPU's attention kernels, emulated: accuracy, schedules, determinism, sizes, errors."""

from functools import partial

import pytest
import torch
from emulated import SCHEDULES, emulated
from kernels import assert_as_accurate_as, drawn, packed, run_with_gradients

from mfgan.ops import reference

LENGTHS = [0, 1, 7, 63, 0, 64, 65]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
RNG = torch.tensor([5, 1 << 40])
TF32_EPS = 2.0**-10


def attention(ops, options):
    """The emulated operator with its gradient, called as the reference is."""
    options = dict(options)
    rng = options.pop("rng", None)
    keywords = {"dropout_p": options.pop("dropout_p", 0.0), "site": options.pop("site", 0)}
    keywords["causal"] = options.pop("causal", True)
    keywords["allow_tf32"] = options.pop("allow_tf32", False)

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v, bounds, longest, bias):
            ctx.keywords = {"scale": q.shape[-1] ** -0.5, **keywords}
            out, lse = ops.varlen_attention(q, k, v, bounds, longest, bias, rng, **ctx.keywords)
            ctx.longest = longest
            ctx.save_for_backward(q, k, v, out, lse, bounds, bias)
            return out

        @staticmethod
        def backward(ctx, grad):
            q, k, v, out, lse, bounds, bias = ctx.saved_tensors
            rest = (bounds, ctx.longest, bias, rng)
            grads = ops.varlen_attention_backward(grad, q, k, v, out, lse, *rest, **ctx.keywords)
            return *grads[:3], None, None, grads[3] if bias is not None else None

    return Attention.apply


def check(ops, lengths, num_heads, head_dim, dtype, *, num_distances=0, **options):
    qkv, bounds, longest = packed(lengths, num_heads, head_dim, dtype=dtype)
    weight = drawn((sum(lengths), num_heads, head_dim), seed=2)
    bias = [drawn((num_heads, num_distances), dtype=dtype, seed=3)] if num_distances else []
    run = attention(ops, options)

    def emulate(q, k, v, bias=None):
        return run(q, k, v, bounds, longest, bias)

    def plain(q, k, v, bias=None):
        return reference.varlen_attention(q, k, v, bounds, longest, distance_bias=bias, **options)

    actual = run_with_gradients(emulate, [*qkv, *bias], weight)
    same = run_with_gradients(plain, [*qkv, *bias], weight)
    exact = run_with_gradients(plain, [x.double() for x in (*qkv, *bias)], weight)
    for results in zip(actual, same, exact, strict=True):
        assert_as_accurate_as(*results)
    return actual


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("num_heads", "head_dim"), [(3, 1), (2, 16), (1, 50), (2, 64), (1, 128)])
def test_as_accurate_as_plain_pytorch(num_heads, head_dim, dtype, causal):
    check(emulated(), LENGTHS, num_heads, head_dim, dtype, causal=causal)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_distances", [0, 9, 300])
def test_dropout_and_distance_bias(num_distances, dtype, causal):
    options = {"dropout_p": 0.3, "rng": RNG, "site": 4, "num_distances": num_distances}
    check(emulated(), [5, 3, 70, 0, 20], 2, 32, dtype, causal=causal, **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_gives_the_same_bits(schedule, dtype):
    options = {"dropout_p": 0.2, "rng": RNG, "num_distances": 5}
    lengths = [70, 3, 20]
    torch.manual_seed(0)
    first = check(emulated("forward", "lazy", os_threads=1), lengths, 2, 24, dtype, **options)
    torch.manual_seed(0)
    other = check(emulated(*schedule, seed=7), lengths, 2, 24, dtype, **options)
    assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def rounded_to_tf32(x):
    """Ten bits of mantissa, ties away from zero."""
    bits = x.view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize(("num_heads", "head_dim"), [(3, 1), (2, 16), (1, 50), (2, 64), (1, 128)])
def test_tf32_is_as_accurate_as_rounded_inputs(num_heads, head_dim, causal):
    """Against plain PyTorch in float32 on inputs rounded to TF32, at TF32's own eps."""
    ops = emulated()
    qkv, bounds, longest = packed(LENGTHS, num_heads, head_dim)
    weight = drawn((sum(LENGTHS), num_heads, head_dim), dtype=torch.float32)
    bias = drawn((num_heads, 9), dtype=torch.float32)
    options = {"causal": causal, "dropout_p": 0.2, "rng": RNG}

    def plain(*x):
        return reference.varlen_attention(*x[:3], bounds, longest, distance_bias=x[3], **options)

    def emulate(*x, allow_tf32):
        run = attention(ops, {**options, "allow_tf32": allow_tf32})
        return run(*x[:3], bounds, longest, x[3])

    inputs = [*qkv, bias]
    exact = run_with_gradients(plain, [x.double() for x in inputs], weight)
    like = run_with_gradients(plain, [*map(rounded_to_tf32, qkv), bias], rounded_to_tf32(weight))
    results = {
        allow: run_with_gradients(partial(emulate, allow_tf32=allow), inputs, weight)
        for allow in (True, False)
    }
    for tf32, float32, same, wanted in zip(results[True], results[False], like, exact, strict=True):
        worst = [(x.double() - wanted).abs().max() for x in (tf32, float32, same)]
        assert worst[0] <= 2 * worst[2] + TF32_EPS * wanted.abs().max()
        assert worst[0] == 0 or worst[0] > 4 * worst[1], "float32 itself is not rounded"


def test_many_short_sessions():
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, 15, (400,), generator=generator).tolist()
    check(emulated(), lengths, 2, 25, torch.bfloat16, dropout_p=0.2, rng=RNG)


@pytest.mark.slow
def test_more_rows_than_the_many_row_blocks_begin_at():
    check(emulated(), [700] * 50, 1, 16, torch.bfloat16)


def test_no_tokens():
    ops = emulated()
    (q, k, v), bounds, _ = packed([0, 0], 2, 8)
    keywords = {"causal": True, "scale": 1.0, "dropout_p": 0.0, "site": 0}
    out, lse = ops.varlen_attention(q, k, v, bounds, 0, None, None, **keywords)
    assert out.shape == (0, 2, 8)
    assert lse.shape == (2, 0)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((4, 1, 129), torch.float32, "head_dim must be at most 128 on a GPU, got 129"),
        ((4, 1, 8), torch.float64, "must be float32, bfloat16 or float16 on a GPU, got float64"),
        ((4, 8), torch.float32, r"q must be \(total_tokens, num_heads, head_dim\)"),
    ],
)
def test_errors(shape, dtype, message):
    ops = emulated()
    x = torch.zeros(shape, dtype=dtype)
    bounds = torch.tensor([0, 4], dtype=torch.int32)
    keywords = {"causal": True, "scale": 1.0, "dropout_p": 0.0, "site": 0}
    with pytest.raises(ValueError, match=message):
        ops.varlen_attention(x, x, x, bounds, 4, None, None, **keywords)
