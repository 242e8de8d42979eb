"""The GPU's factor_score kernels, emulated: accuracy with gradients, schedules, sizes, errors."""

import pytest
import torch
from emulated import SCHEDULES, emulated
from kernels import assert_as_accurate_as, drawn
from score_inputs import FLOATS, make_inputs

from mfgan.ops import reference_score

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
RNG = torch.tensor([5, 1 << 40])
TF32_EPS = 2.0**-10
DROPOUT = {"dropout_p": 0.3, "rng": RNG, "site": 4}

# Sessions, candidates, sizes: histories of every length around a tile, heads and widths that fill
# no vector, more candidates than a warp's rows and than a block's, scores that fill no tile.
CASES = {
    "one": ([1], 1, {"dim": 16, "width": 20}),
    "ragged": ([0, 1, 7, 0, 63], 1, {"dim": 16, "max_history": 64, "factors": 1, "width": 16}),
    "longer": ([64, 65], 1, {"dim": 8, "max_history": 70, "positions": [0, 63, 64, 128, 100]}),
    "longest": ([3, 200], 2, {"dim": 64, "max_history": 200, "positions": [202], "factors": 1}),
    "sliding": ([30, 5], 2, {"dim": 10, "width": 3, "max_history": 9}),
    "fifty": ([5, 12], 11, {"dim": 50, "width": 50, "max_history": 12, "rows": 30}),
    "heads": ([9], 17, {"dim": 96, "width": 100, "heads": 4, "factors": 1, "positions": [8, 3]}),
    "wide": ([20], 3, {"dim": 128, "heads": 1, "width": 36, "factors": 1, "positions": [19]}),
    "many": ([8], 70, {"dim": 8, "max_history": 6, "positions": [7, 1]}),
}


def open_or_shut(inputs):
    """The same with every gate of the feed-forward far from its edge.

    Which side of it a rounded value falls on is chance, and worth a whole gradient.
    """
    bias = inputs.floats[FLOATS.index("ff1_bias")].detach()
    return inputs.swap(ff1_bias=(bias + 4 * bias.sign()).requires_grad_())


def run(ops, inputs, grad=None, *, rng=None, dropout_p=0.0, site=0, allow_tf32=False):
    """The scores, and with ``grad`` the gradients of the floating tensors."""
    keywords = {"num_heads": inputs.num_heads, "dropout_p": dropout_p, "site": site}
    keywords["allow_tf32"] = allow_tf32
    arguments = (*(x.detach() for x in inputs.floats), *inputs.indices, inputs.max_history, rng)
    out = ops.factor_score(*arguments, **keywords)
    if grad is None:
        return [out]
    return [out, *ops.factor_score_backward(grad.to(out.dtype), *arguments, **keywords)]


def check(ops, inputs, **options):
    shape = (*inputs.indices[1].shape, len(inputs.floats[0]))
    grad = drawn(shape)
    actual = run(ops, inputs, grad, **options)
    plain = inputs.score_and_grads(grad, reference_score.factor_score, **options)
    exact = inputs.cast(torch.float64)
    exact = exact.score_and_grads(grad, reference_score.factor_score, **options)
    for name, *results in zip(["score", *FLOATS], actual, plain, exact, strict=True):
        try:
            assert_as_accurate_as(*results)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
    return actual


@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_as_accurate_as_plain_pytorch(case, dtype, options):
    lengths, num_candidates, sizes = CASES[case]
    inputs = open_or_shut(make_inputs(lengths, num_candidates, **sizes)).cast(dtype)
    check(emulated(), inputs, **options)


# Their gradients are those of the scores times the head's weights, summed in float32.
BEHIND_ALL_PRODUCTS = ("ff2_bias", "head_bias")


def worst(results, exact):
    return [float((x.double() - e).abs().max()) for x, e in zip(results, exact, strict=True)]


@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("case", CASES)
def test_tf32_is_more_accurate_than_float16(case, options):
    """float16 rounds to as many bits, and what comes between the products besides."""
    lengths, num_candidates, sizes = CASES[case]
    inputs = open_or_shut(make_inputs(lengths, num_candidates, **sizes)).cast(torch.float32)
    shape = (*inputs.indices[1].shape, len(inputs.floats[0]))
    grad, ops = drawn(shape, dtype=torch.float32), emulated()
    exact = inputs.cast(torch.float64)
    exact = exact.score_and_grads(grad.double(), reference_score.factor_score, **options)
    exact = [x.detach() for x in exact]
    half = inputs.cast(torch.float16)
    errors = zip(
        ["score", *FLOATS],
        worst(run(ops, inputs, grad, allow_tf32=True, **options), exact),
        worst(run(ops, inputs, grad, **options), exact),
        worst(run(ops, half, grad, **options), exact),
        exact,
        strict=True,
    )
    for name, tf32, float32, float16, wanted in errors:
        assert tf32 <= 1.5 * float16 + TF32_EPS * float(wanted.abs().max()), name
        rounded = name not in BEHIND_ALL_PRODUCTS
        assert not rounded or tf32 > 4 * float32, f"{name}: float32 is not rounded"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_gives_the_same_bits(schedule, dtype):
    inputs = make_inputs([20, 2], 3, dim=12, width=10, factors=1, max_history=20)
    inputs = open_or_shut(inputs).cast(dtype)
    first = check(emulated("forward", "lazy", os_threads=1), inputs, **DROPOUT)
    other = check(emulated(*schedule, seed=7), inputs, **DROPOUT)
    assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_dropout_draws_the_bits_of_the_cpu():
    inputs = make_inputs([9, 4], 3, dtype=torch.float32)
    grad = drawn((13, 3, 2), dtype=torch.float32)
    on_cpu = inputs.score_and_grads(grad, **DROPOUT)
    torch.testing.assert_close(run(emulated(), inputs, grad, **DROPOUT), on_cpu)
    assert not torch.allclose(inputs.score(), on_cpu[0])


@pytest.mark.parametrize(("lengths", "num_candidates"), [([], 2), ([0, 0], 2), ([4], 0)])
def test_nothing_to_score(lengths, num_candidates):
    inputs = make_inputs(lengths, num_candidates, dtype=torch.float32)
    shape = sum(lengths), num_candidates, 2
    out, *grads = run(emulated(), inputs, torch.zeros(shape))
    assert out.shape == shape
    assert [x.shape for x in grads] == [x.shape for x in inputs.floats]
    assert not any(x.any() for x in grads)


def test_unseen_rows_and_distances_get_zero():
    inputs = make_inputs([3], 1, rows=50, max_history=40, dtype=torch.float32)
    grads = dict(zip(FLOATS, run(emulated(), inputs, torch.ones(3, 1, 2))[1:], strict=True))
    history, candidates = (inputs.indices[i].flatten().unique() for i in (0, 1))
    for name, seen in (
        ("query", candidates),
        ("residual", candidates),
        ("key", torch.cat([history, candidates])),
        ("position_value", torch.arange(4)),
    ):
        rest = torch.ones(grads[name].shape[1], dtype=torch.bool)
        rest[seen] = False
        assert not grads[name][:, rest].any(), name
        assert grads[name][:, seen].any(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": torch.float64}, "query must be float32, bfloat16 or float16 on a GPU"),
        ({"dim": 129, "heads": 1}, "D / num_heads must be at most 128 on a GPU, got 129"),
        ({"dim": 260, "heads": 4}, "D must be at most 256 and W at most 1024 on a GPU, got 260"),
        ({"width": 1025}, "W at most 1024 on a GPU, got 6 and 1025"),
    ],
)
def test_errors(change, message):
    inputs = make_inputs([3], 1, **{"dtype": torch.float32, **change})
    with pytest.raises(ValueError, match=message):
        run(emulated(), inputs)
