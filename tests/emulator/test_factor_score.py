"""The GPU's factor_score kernels, emulated: accuracy, schedules, sizes, errors."""

import pytest
import torch
from emulated import SCHEDULES, emulated
from kernels import assert_as_accurate_as
from score_inputs import make_inputs

from mfgan.ops import reference_score

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
RNG = torch.tensor([5, 1 << 40])
DROPOUT = {"dropout_p": 0.3, "rng": RNG, "site": 4}

# Sessions, candidates, sizes: histories of every length around a tile, heads and widths that fill
# no vector, more candidates than a warp's rows and than a block's, scores that fill no tile.
CASES = {
    "one": ([1], 1, {"dim": 4}),
    "ragged": ([0, 1, 7, 0, 63], 1, {"dim": 16, "max_history": 64, "factors": 1, "width": 16}),
    "longer": ([64, 65], 1, {"dim": 8, "max_history": 70, "positions": [0, 63, 64, 128, 100]}),
    "longest": ([3, 200], 2, {"dim": 64, "max_history": 200, "positions": [202], "factors": 1}),
    "sliding": ([30, 5], 2, {"dim": 10, "width": 3, "max_history": 9}),
    "fifty": ([5, 12], 11, {"dim": 50, "width": 50, "max_history": 12, "rows": 30}),
    "heads": ([9], 17, {"dim": 96, "width": 100, "heads": 4, "factors": 1, "positions": [8, 3]}),
    "wide": ([20], 3, {"dim": 128, "heads": 1, "width": 36, "factors": 1, "positions": [19]}),
    "many": ([8], 70, {"dim": 8, "max_history": 6, "positions": [7, 1]}),
}


def run(ops, inputs, *, rng=None, dropout_p=0.0, site=0):
    keywords = {"num_heads": inputs.num_heads, "dropout_p": dropout_p, "site": site}
    return ops.factor_score(*inputs.floats, *inputs.indices, inputs.max_history, rng, **keywords)


def check(ops, inputs, **options):
    actual = run(ops, inputs, **options)
    plain = inputs.score(reference_score.factor_score, **options)
    exact = inputs.cast(torch.float64).score(reference_score.factor_score, **options)
    assert_as_accurate_as(actual, plain, exact)
    return [actual]


@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_as_accurate_as_plain_pytorch(case, dtype, options):
    lengths, num_candidates, sizes = CASES[case]
    check(emulated(), make_inputs(lengths, num_candidates, **sizes).cast(dtype), **options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_gives_the_same_bits(schedule, dtype):
    inputs = make_inputs([40, 3], 3, dim=24, width=20, max_history=40).cast(dtype)
    first = check(emulated("forward", "lazy", os_threads=1), inputs, **DROPOUT)
    other = check(emulated(*schedule, seed=7), inputs, **DROPOUT)
    assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_dropout_draws_the_bits_of_the_cpu():
    inputs = make_inputs([9, 4], 3, dtype=torch.float32)
    on_cpu = inputs.score(**DROPOUT)
    torch.testing.assert_close(run(emulated(), inputs, **DROPOUT), on_cpu)
    assert not torch.allclose(inputs.score(), on_cpu)


@pytest.mark.parametrize(("lengths", "num_candidates"), [([], 2), ([0, 0], 2), ([4], 0)])
def test_nothing_to_score(lengths, num_candidates):
    inputs = make_inputs(lengths, num_candidates, dtype=torch.float32)
    assert run(emulated(), inputs).shape == (sum(lengths), num_candidates, 2)


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
