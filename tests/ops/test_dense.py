"""A linear map with norm, activation, dropout and residual: values, gradients, what it refuses."""

import pytest
import torch
from kernels import HALF, assert_as_accurate_as, drawn, needs_kernel, run_with_gradients
from torch.utils.checkpoint import checkpoint

from mfgan.ops import dense, reference_dense

RNG = torch.tensor([-3, 1 << 50])
SHAPES = [(7, 5, 3), (950, 50, 150), (130, 64, 256), (0, 4, 4), (1, 1, 1), (100, 129, 33)]
NORMS = {"plain": 0, "rms": 1, "layer": 2}


def made(rows, num_in, num_out, dtype, device):
    """x, weight, bias, norm_weight, norm_bias, residual."""
    shapes = [(rows, num_in), (num_out, num_in), (num_out,), (num_in,), (num_in,), (rows, num_out)]
    scales = [1, num_in**-0.5, 1, 1, 1, 1]
    return [
        drawn(shape, dtype=dtype, device=device, seed=seed) * scale
        for seed, (shape, scale) in enumerate(zip(shapes, scales, strict=True))
    ]


def call(function, inputs, norm, **options):
    x, weight, bias, norm_weight, norm_bias, residual = inputs
    given = {"norm_weight": norm_weight} if NORMS[norm] else {}
    given |= {"norm_bias": norm_bias} if NORMS[norm] == 2 else {}
    return function(x, weight, bias, **given, residual=residual, **options)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_accurate_as_plain_pytorch(shape, dtype, activation, norm, device):
    inputs = made(*shape, dtype, device)
    options = {"activation": activation, "dropout_p": 0.3, "rng": RNG.to(device), "site": 2}
    unused = {"plain": (3, 4), "rms": (4,), "layer": ()}[norm]
    weight = drawn((shape[0], shape[2]), dtype=torch.float64, device=device, seed=9)

    def run(function, cast):
        leaves = [x.to(cast) for x in inputs]

        def of_used(*used):
            rest = iter(used)
            filled = [leaves[i] if i in unused else next(rest) for i in range(6)]
            return call(function, filled, norm, **options)

        return run_with_gradients(
            of_used, [x for i, x in enumerate(leaves) if i not in unused], weight
        )

    results = run(dense, dtype), run(reference_dense.dense, dtype)
    for result in zip(*results, run(reference_dense.dense, torch.float64), strict=True):
        if result[0].numel():
            assert_as_accurate_as(*result)


@pytest.mark.parametrize("activation", ["none", "gelu"])
@pytest.mark.parametrize("norm", NORMS)
def test_gradcheck(norm, activation, device):
    inputs = [x.requires_grad_() for x in made(3, 4, 5, torch.float64, device)]
    options = {"activation": activation, "dropout_p": 0.4, "rng": RNG.to(device), "site": 1}
    run = lambda *xs: call(dense, xs, norm, **options)  # noqa: E731
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("activation", [0, 2])
@pytest.mark.parametrize("rows", [0, 5])
def test_opcheck(rows, activation, device):
    needs_kernel("dense", device)
    inputs = [x.requires_grad_() for x in made(rows, 4, 3, torch.float32, device)]
    keywords = {"eps": 1e-6, "activation": activation, "dropout_p": 0.2, "site": 3}
    op = torch.ops.mfgan.dense.default
    torch.library.opcheck(op, (*inputs, RNG.to(device)), keywords)
    bare = (*inputs[:2], None, None, None, None, None)
    torch.library.opcheck(op, bare, keywords)


def test_rows_do_not_see_each_other(device):
    inputs = made(100, 50, 20, torch.float32, device)
    whole = call(dense, inputs, "layer", activation="gelu")
    inputs[0] = inputs[0].clone()
    inputs[0][40:] = torch.inf
    part = call(dense, inputs, "layer", activation="gelu")
    assert torch.equal(part[:40], whole[:40])
    assert part[40:].isnan().all()


def test_dropped_elements_are_those_of_dropout_residual(device):
    x, weight, *_ = made(60, 8, 50, torch.float32, device)
    out = dense(x, weight, dropout_p=0.5, rng=RNG.to(device), site=7)
    plain = reference_dense.dense(x, weight, dropout_p=0.5, rng=RNG.to(device), site=7)
    assert torch.equal(out == 0, plain == 0)
    assert 0.4 < (out == 0).float().mean() < 0.6


def test_thread_count_changes_no_bit():
    inputs = [x.requires_grad_() for x in made(5000, 50, 64, torch.float32, "cpu")]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = call(dense, inputs, "layer", activation="gelu", dropout_p=0.2, rng=RNG, site=0)
            results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_rows_far_apart_in_memory_give_the_same(device):
    inputs = made(40, 30, 20, torch.float32, device)
    strided = [x.t().contiguous().t() if x.dim() == 2 else x for x in inputs]
    assert torch.equal(call(dense, strided, "layer"), call(dense, inputs, "layer"))


def test_inside_autocast_it_is_float32(device):
    inputs = made(6, 4, 3, torch.float32, device)
    with torch.autocast(device.type, torch.bfloat16):
        out = call(dense, [inputs[0].bfloat16(), *inputs[1:]], "layer")
    assert out.dtype == torch.float32


def test_compiles_without_a_break(device):
    inputs = made(6, 4, 3, torch.float32, device)
    rng = RNG.to(device)

    def run(*xs):
        return call(dense, xs, "layer", activation="gelu", dropout_p=0.5, rng=rng) * 2

    weight = torch.ones(6, 3, dtype=torch.float64, device=device)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    results = [run_with_gradients(f, inputs, weight) for f in (run, compiled)]
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


X, W = torch.zeros(5, 4), torch.zeros(3, 4)
WRONG = {
    "x must be \\(num_rows, num_in\\), got \\(4,\\)": {"x": X[0]},
    "x must be float32, float64, bfloat16 or float16, got int64": {"x": X.long()},
    "weight must be \\(num_out, num_in\\) with num_in 4, got \\(4, 3\\)": {"weight": W.t()},
    "weight must be float32, got float64": {"weight": W.double()},
    "weight must be on cpu, got meta": {"weight": W.to("meta")},
    "bias must be \\(3,\\), got \\(4,\\)": {"bias": X[0]},
    "norm_weight must be \\(4,\\), got \\(5,\\)": {"norm_weight": X[:, 0]},
    "norm_bias must be \\(4,\\), got \\(5,\\)": {"norm_bias": X[:, 0]},
    "norm_bias must come with norm_weight, got it alone": {"norm_weight": None},
    "residual must be \\(5, 3\\), got \\(5, 4\\)": {"residual": X},
    "residual must be float32, got float64": {"residual": X[:, :3].double()},
    "activation must be one of none, relu, gelu, got 'tanh'": {"activation": "tanh"},
    "dropout_p must be in \\[0, 1\\), got 1.5": {"dropout_p": 1.5},
    "rng must be \\(2,\\), got \\(1,\\)": {"rng": RNG[:1]},
    "rng must be int64, got int32": {"rng": RNG.int()},
}
RIGHT = {
    "x": X,
    "weight": W,
    "bias": W[:, 0],
    "norm_weight": X[0],
    "norm_bias": X[0],
    "residual": X[:, :3],
    "rng": RNG,
    "activation": "none",
    "dropout_p": 0.1,
    "site": 0,
}


@pytest.mark.parametrize("message", WRONG)
def test_refuses(message):
    with pytest.raises((ValueError, TypeError), match=f"^dense: {message}$"):
        dense(**{**RIGHT, **WRONG[message]})


@pytest.mark.parametrize("message", [m for m in WRONG if "meta" not in m and "tanh" not in m])
def test_the_operator_itself_refuses(message):
    """The kernels never trust that the Python function was the caller."""
    needs_kernel("dense", torch.device("cpu"))
    given = {**RIGHT, "activation": 0, "eps": 1e-6, **WRONG[message]}
    with pytest.raises(ValueError, match=r"^dense: "):
        torch.ops.mfgan.dense.default(**given)


def test_what_is_computed_again_has_the_same_gradients(device):
    leaves = [x.requires_grad_() for x in made(6, 5, 3, torch.float32, device)]

    def gradients(run):
        return torch.autograd.grad(run(lambda *x: call(dense, x, "layer")).sum(), leaves)

    again = gradients(lambda f: checkpoint(f, *leaves, use_reentrant=False))
    assert all(map(torch.equal, again, gradients(lambda f: f(*leaves))))
