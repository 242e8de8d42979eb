"""Packed attention: accuracy, gradients, what tokens may see, and what it refuses."""

import pytest
import torch
from kernels import HALF, assert_as_accurate_as, drawn, needs_kernel, packed, run_with_gradients

from mfgan.ops import reference, varlen_attention

RNG = torch.tensor([5, 7])
OPTIONS = {
    "plain": {},
    "scale": {"scale": 0.3},
    "dropout": {"dropout_p": 0.3, "rng": RNG, "site": 2},
    "everything": {"dropout_p": 0.5, "rng": torch.tensor([-1, 1 << 40]), "site": 9, "bias": 12},
}


def options_on(name, device, dtype, num_heads):
    options = dict(OPTIONS[name])
    if "rng" in options:
        options["rng"] = options["rng"].to(device)
    distances = options.pop("bias", 0)
    if not distances:
        return options, None
    return options, drawn((num_heads, distances), dtype=dtype, device=device)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF], ids=str)
@pytest.mark.parametrize(
    ("lengths", "num_heads", "head_dim"),
    [([5, 1], 3, 1), ([3, 0, 17, 1, 0], 2, 32), ([64, 33, 200], 1, 50), ([13, 70], 2, 100)],
    ids=str,
)
def test_as_accurate_as_plain_pytorch(lengths, num_heads, head_dim, dtype, causal, name, device):
    qkv, bounds, longest = packed(lengths, num_heads, head_dim, dtype=dtype, device=device)
    weight = drawn((sum(lengths), num_heads, head_dim), device=device)

    def run(function, cast):
        options, bias = options_on(name, device, cast, num_heads)

        def call(q, k, v, bias=None):
            return function(q, k, v, bounds, longest, causal=causal, distance_bias=bias, **options)

        inputs = [x.to(cast) for x in qkv] + ([] if bias is None else [bias])
        return run_with_gradients(call, inputs, weight)

    actual = run(varlen_attention, dtype)
    plain = run(reference.varlen_attention, dtype)
    exact = run(reference.varlen_attention, torch.float64)
    for results in zip(actual, plain, exact, strict=True):
        assert_as_accurate_as(*results)


@pytest.mark.parametrize("large", [30.0, 300.0, 1e4])
@pytest.mark.parametrize("sign", [1, -1])
def test_large_logits(sign, large, device):
    """Weights that round to 0 and 1 leave finite results, and gradients as good as any."""
    (q, k, v), bounds, longest = packed([40, 7], 1, 8, device=device)
    weight = drawn(q.shape, device=device)

    def run(function, cast):
        call = lambda *x: function(*x, bounds, longest)  # noqa: E731
        inputs = [x.to(cast) for x in (q * large * sign, k, v)]
        return run_with_gradients(call, inputs, weight)

    actual = run(varlen_attention, torch.float32)
    assert all(x.isfinite().all() for x in actual)
    if large < 1e4:
        plain = run(reference.varlen_attention, torch.float32)
        exact = run(reference.varlen_attention, torch.float64)
        for results in zip(actual, plain, exact, strict=True):
            assert_as_accurate_as(*results)


@pytest.mark.parametrize(("place", "first", "end"), [(0, 20, 21), (1, 20, 50)], ids=["q", "k"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("name", ["plain", "dropout"])
def test_what_is_no_number_reaches_all_who_look(name, dtype, place, first, end, device):
    inputs, bounds, longest = packed([50], 2, 8, dtype=dtype, device=device)
    inputs = [x.clone() for x in inputs]
    inputs[place][20, 1, 3] = torch.nan
    options, _ = options_on(name, device, dtype, 2)

    def call(q, k, v):
        return varlen_attention(q, k, v, bounds, longest, **options)

    weight = drawn(inputs[0].shape, device=device)
    out, grad_q, _, grad_v = run_with_gradients(call, inputs, weight)
    assert out[:, 1].isnan().all(1).nonzero().flatten().tolist() == list(range(first, end))
    assert grad_q[first:end, 1].isnan().all()
    assert grad_v[:20, 1].isnan().all()
    assert not out[:, 0].isnan().any()
    assert not grad_v[:, 0].isnan().any()


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("lengths", [[3, 0, 7, 1], [0, 0], []], ids=str)
def test_gradcheck(lengths, causal, device):
    qkv, bounds, longest = packed(lengths, 2, 3, dtype=torch.float64, device=device)
    bias = drawn((2, 4), device=device)
    rng = RNG.to(device)

    def call(q, k, v, bias):
        return varlen_attention(
            q,
            k,
            v,
            bounds,
            longest,
            causal=causal,
            dropout_p=0.4,
            rng=rng,
            site=1,
            distance_bias=bias,
        )

    inputs = [x.clone().requires_grad_() for x in (*qkv, bias)]
    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.parametrize("lengths", [[5, 0, 3], [0], []], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_opcheck(lengths, with_bias, device):
    needs_kernel("varlen_attention", device)
    qkv, bounds, longest = packed(lengths, 2, 4, device=device)
    qkv = [x.clone().requires_grad_() for x in qkv]
    bias = drawn((2, 3), dtype=torch.float32, device=device).requires_grad_() if with_bias else None
    rng = RNG.to(device) if with_bias else None
    torch.library.opcheck(
        torch.ops.mfgan.varlen_attention.default,
        (*qkv, bounds, longest, bias, rng),
        {"causal": True, "scale": 0.5, "dropout_p": 0.2, "site": 3},
    )


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
def test_sessions_do_not_see_each_other(causal, device):
    (q, k, v), bounds, longest = packed([40, 60, 9], 2, 50, device=device)
    before = varlen_attention(q, k, v, bounds, longest, causal=causal)
    k, v = k.clone(), v.clone()
    # On a GPU the sessions share tiles, and a NaN times the weight zero is one.
    k[40:100], v[40:100] = 100.0, float("nan") if device.type == "cpu" else 1e6
    after = varlen_attention(q, k, v, bounds, longest, causal=causal)
    torch.testing.assert_close(after[:40], before[:40], rtol=0, atol=0)
    torch.testing.assert_close(after[100:], before[100:], rtol=0, atol=0)


def test_a_causal_token_does_not_see_the_future(device):
    (q, k, v), bounds, longest = packed([77], 1, 50, device=device)
    before = varlen_attention(q, k, v, bounds, longest)
    k, v = k.clone(), v.clone()
    k[50:], v[50:] = 100.0, -1e6
    after = varlen_attention(q, k, v, bounds, longest)
    torch.testing.assert_close(after[:50], before[:50], rtol=0, atol=0)


def test_packed_equals_one_session_at_a_time(device):
    needs_kernel("varlen_attention", device)
    lengths = [3, 50, 17, 1, 128]
    (q, k, v), bounds, longest = packed(lengths, 2, 32, device=device)
    together = varlen_attention(q, k, v, bounds, longest).split(lengths)
    for i, length in enumerate(lengths):
        span = slice(int(bounds[i]), int(bounds[i + 1]))
        alone = torch.tensor([0, length], dtype=torch.int32, device=device)
        out = varlen_attention(q[span], k[span], v[span], alone, length)
        torch.testing.assert_close(together[i], out, rtol=0, atol=0)


def test_any_strides_give_the_same_bits(device):
    (q, k, v), bounds, longest = packed([30, 5, 100], 2, 32, device=device)
    weight = drawn((135, 2, 32), device=device)

    def run(layout):
        call = lambda *x: varlen_attention(*x, bounds, longest)  # noqa: E731
        return run_with_gradients(call, [layout(x) for x in (q, k, v)], weight)

    wanted = run(lambda x: x.contiguous())
    heads_first = run(lambda x: x.transpose(0, 1).contiguous().transpose(0, 1))
    features_first = run(lambda x: x.permute(2, 1, 0).contiguous().permute(2, 1, 0))
    for layout in (run(lambda x: x), heads_first, features_first):
        for got, expected in zip(layout, wanted, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_dropout_bits_are_the_references(device):
    """Uniform attention over unit values shows the mask itself."""
    lengths = [70, 0, 33]
    v = torch.eye(70, device=device)[torch.cat([torch.arange(n) for n in lengths])][:, None]
    q = torch.zeros_like(v)
    bounds = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)
    options = {"causal": False, "dropout_p": 0.25, "rng": RNG.to(device), "site": 11}
    out = varlen_attention(q, q, v, bounds, 70, **options)
    wanted = reference.varlen_attention(q, q, v, bounds, 70, **options)
    assert torch.equal(out > 0, wanted > 0)
    kept = (out > 0).sum() / (70 * 70 + 33 * 33)
    assert abs(kept.item() - 0.75) < 0.03
    other = varlen_attention(q, q, v, bounds, 70, **{**options, "site": 12})
    assert not torch.equal(out > 0, other > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_thread_count_changes_no_bit(dtype):
    needs_kernel("varlen_attention", torch.device("cpu"))
    lengths = [200, 3, 150, 7, 0, 64, 199, 31] * 3
    qkv, bounds, longest = packed(lengths, 2, 50, dtype=dtype)
    bias = drawn((2, 40), dtype=dtype)
    weight = drawn((sum(lengths), 2, 50))

    def call(q, k, v, bias):
        return varlen_attention(
            q, k, v, bounds, longest, dropout_p=0.2, rng=RNG, distance_bias=bias
        )

    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run_with_gradients(call, [*qkv, bias], weight))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert torch.equal(got, wanted)


def test_compiles_without_a_break(device):
    (q, k, v), bounds, longest = packed([4, 5], 2, 8, device=device)
    rng = RNG.to(device)

    def call(q, k, v, rng):
        return varlen_attention(q, k, v, bounds, longest, dropout_p=0.2, rng=rng).square()

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    weight = torch.ones_like(q)
    wanted = run_with_gradients(lambda *x: call(*x, rng), [q, k, v], weight)
    got = run_with_gradients(lambda *x: compiled(*x, rng), [q, k, v], weight)
    for actual, expected in zip(got, wanted, strict=True):
        torch.testing.assert_close(actual, expected)


X = torch.zeros(5, 2, 4)
BOUNDS = torch.tensor([0, 5], dtype=torch.int32)
WRONG = {
    "q must be \\(total_tokens, num_heads, head_dim\\), got \\(5, 8\\)": {"q": X.view(5, 8)},
    "q must be \\(total_tokens, num_heads, head_dim\\), got \\(5, 2, 0\\)": {"q": X[..., :0]},
    "k must have the shape of q \\(5, 2, 4\\), got \\(4, 2, 4\\)": {"k": X[:4]},
    "v must have the shape of q \\(5, 2, 4\\), got \\(5, 2, 3\\)": {"v": X[..., :3]},
    "q must be float32, float64, bfloat16 or float16, got int64": {"q": X.long()},
    "k must be float32, got float64": {"k": X.double()},
    "v must be float32, got bfloat16": {"v": X.bfloat16()},
    "v must be on cpu, got meta": {"v": X.to("meta")},
    "cu_seqlens must be int32, got int64": {"cu_seqlens": BOUNDS.long()},
    "cu_seqlens must be \\(num_sessions \\+ 1,\\), got \\(0,\\)": {"cu_seqlens": BOUNDS[:0]},
    "cu_seqlens must be \\(num_sessions \\+ 1,\\), got \\(1, 2\\)": {"cu_seqlens": BOUNDS[None]},
    "cu_seqlens must start at 0, got 1": {"cu_seqlens": BOUNDS + BOUNDS.eq(0)},
    "cu_seqlens must end at total_tokens 5, got 4": {"cu_seqlens": BOUNDS - BOUNDS.gt(0).int()},
    "cu_seqlens must never decrease, got 3 before 2": {
        "cu_seqlens": torch.tensor([0, 3, 2, 5], dtype=torch.int32)
    },
    "sessions must be no longer than max_seqlen 4, got 5": {"max_seqlen": 4},
    "dropout_p must be in \\[0, 1\\), got 1.0": {"dropout_p": 1.0},
    "dropout_p must be in \\[0, 1\\), got -0.1": {"dropout_p": -0.1},
    "rng must be \\(2,\\), got \\(3,\\)": {"rng": torch.zeros(3, dtype=torch.int64)},
    "rng must be int64, got int32": {"rng": BOUNDS},
    "distance_bias must be \\(num_heads, num_distances\\) with num_heads 2, got \\(1, 4\\)": {
        "distance_bias": torch.zeros(1, 4)
    },
    "distance_bias must be \\(num_heads, num_distances\\) with num_heads 2, got \\(2, 0\\)": {
        "distance_bias": torch.zeros(2, 0)
    },
    "distance_bias must be float32, got float64": {"distance_bias": torch.zeros(2, 4).double()},
}


@pytest.mark.parametrize("message", WRONG)
def test_refuses(message):
    call = {"q": X, "k": X, "v": X, "cu_seqlens": BOUNDS, "max_seqlen": 5, **WRONG[message]}
    with pytest.raises((ValueError, TypeError), match=f"^varlen_attention: {message}$"):
        varlen_attention(**call)


@pytest.mark.parametrize("message", [m for m in WRONG if "meta" not in m and "rng" not in m])
def test_the_operator_itself_refuses(message):
    """The kernels never trust that the Python function was the caller."""
    needs_kernel("varlen_attention", torch.device("cpu"))
    call = {"q": X, "k": X, "v": X, "cu_seqlens": BOUNDS, "max_seqlen": 5, "dropout_p": 0.1}
    call |= {"distance_bias": None, "rng": None, **WRONG[message]}
    with pytest.raises(ValueError, match=r"^varlen_attention: "):
        torch.ops.mfgan.varlen_attention.default(**call, causal=True, scale=1.0, site=0)


def gradients_of(function, qkv, weight):
    leaves = [x.detach().requires_grad_() for x in qkv]
    return torch.autograd.grad(function(*leaves), leaves, weight)


def test_eager_and_registered_gradients_are_the_same(device):
    needs_kernel("varlen_attention", device)
    qkv, bounds, longest = packed([9, 0, 30], 2, 8, device=device)
    weight = drawn((39, 2, 8), dtype=torch.float32, device=device)
    options = {"dropout_p": 0.2, "site": 3}
    rng = RNG.to(device)

    def registered(q, k, v):
        op = torch.ops.mfgan.varlen_attention.default
        return op(q, k, v, bounds, longest, None, rng, causal=True, scale=8**-0.5, **options)[0]

    def eager(q, k, v):
        return varlen_attention(q, k, v, bounds, longest, rng=rng, **options)

    wanted = gradients_of(registered, qkv, weight)
    for got, expected in zip(gradients_of(eager, qkv, weight), wanted, strict=True):
        assert torch.equal(got, expected)


def test_a_second_derivative_is_refused(device):
    needs_kernel("varlen_attention", device)
    (q, k, v), bounds, longest = packed([4], 1, 8, device=device)
    q = q.detach().requires_grad_()
    out = varlen_attention(q, k, v, bounds, longest)
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
