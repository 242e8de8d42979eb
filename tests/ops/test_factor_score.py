"""factor_score: accuracy, gradients, what a score may depend on, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernels import HALF, assert_as_accurate_as, needs_kernel
from score_inputs import FLOATS, Block, expand_prefixes, make_inputs

from mfgan.ops import factor_score, reference_score

RNG = torch.tensor([11, 3])
DROPOUT = {"dropout_p": 0.3, "site": 4}
ROOT = Path(__file__).parents[2]

# Sessions, candidates, sizes: heads and widths that fill no vector, histories shorter and longer
# than max_history, single positions and runs, more candidates than a block of the kernel holds.
CASES = {
    "one": ([1], 1, {}),
    "runs": ([3, 0, 17, 1, 40], 1, {"dim": 50, "width": 50, "max_history": 40, "rows": 30}),
    "sliding": ([70, 5], 2, {"dim": 10, "width": 3, "max_history": 9}),
    "wide": ([9, 30], 3, {"dim": 100, "width": 120, "heads": 1, "max_history": 16, "factors": 1}),
    "candidates": ([20, 6], 11, {"dim": 24, "heads": 3, "max_history": 12, "rows": 50}),
    "many": ([8], 70, {"dim": 8, "max_history": 6}),
    "last": ([5, 12, 1], 1, {"dim": 12, "positions": [16, 4, 17], "max_history": 8}),
    "gaps": ([30, 4], 2, {"positions": [0, 1, 2, 3, 7, 5, 9, 9, 29, 33, 30], "max_history": 20}),
    "chunks": ([50] * 14, 1, {"dim": 10, "max_history": 50, "rows": 40}),
}


def dropout(options, device):
    return {**options, "rng": RNG.to(device)} if options else {}


def whole_block(inputs, seed=5):
    generator = torch.Generator().manual_seed(seed)
    dim = inputs.floats[0].shape[-1]
    items, places = inputs.floats[0], inputs.floats[4]
    matrices = torch.randn(3, len(items), dim, dim, generator=generator, dtype=items.dtype)
    return Block(items, places, *matrices.unbind(0), inputs.floats[6:])


@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_as_accurate_as_plain_pytorch(case, dtype, options, device):
    lengths, num_candidates, sizes = CASES[case]
    options = dropout(options, device)
    inputs = make_inputs(lengths, num_candidates, **sizes).to(device).cast(dtype)
    generator = torch.Generator().manual_seed(1)
    shape = *inputs.indices[1].shape, len(inputs.floats[0])
    grad = torch.randn(shape, generator=generator, dtype=torch.float64).to(device)
    actual = inputs.score_and_grads(grad, **options)
    plain = inputs.score_and_grads(grad, reference_score.factor_score, **options)
    exact = inputs.cast(torch.float64)
    exact = exact.score_and_grads(grad, reference_score.factor_score, **options)
    for results in zip(actual, plain, exact, strict=True):
        assert_as_accurate_as(*results)


@pytest.mark.parametrize("options", [{}, DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("num_candidates", [1, 4])
def test_gradcheck(num_candidates, options, device):
    inputs = make_inputs([5, 0, 2], num_candidates, factors=1, dim=4, width=3, max_history=3).to(
        device
    )
    options = dropout(options, device)

    def score(*floats):
        return factor_score(*floats, *inputs.indices, 3, num_heads=2, **options)

    torch.autograd.gradcheck(score, inputs.floats)


@pytest.mark.parametrize("lengths", [[3, 0, 7, 1], [0], []], ids=str)
@pytest.mark.parametrize("with_dropout", [False, True])
def test_opcheck(lengths, with_dropout, device):
    needs_kernel("factor_score", device)
    inputs = make_inputs(lengths, 2, dtype=torch.float32).to(device)
    rng = RNG.to(device) if with_dropout else None
    torch.library.opcheck(
        torch.ops.mfgan.factor_score.default,
        (*inputs.floats, *inputs.indices, inputs.max_history, rng),
        {"num_heads": 2, "dropout_p": 0.3, "site": 1},
    )


@pytest.mark.parametrize("lengths", [[1], [6], [3, 0, 7, 1], [12]], ids=str)
@pytest.mark.parametrize("num_candidates", [1, 3, 5])
def test_equals_every_prefix_as_a_sequence_of_its_own(lengths, num_candidates, device):
    inputs = make_inputs(lengths, num_candidates)
    block = whole_block(inputs)
    leaves = [block.items, block.places, *block.rest]
    expanded = expand_prefixes(block, inputs)
    grad = torch.randn_like(expanded)
    floats, indices = ([x.to(device) for x in part] for part in (block.tables(), inputs.indices))
    shared = factor_score(*floats, *indices, inputs.max_history, num_heads=2).cpu()
    torch.testing.assert_close(shared, expanded)
    torch.testing.assert_close(
        torch.autograd.grad(shared, leaves, grad), torch.autograd.grad(expanded, leaves, grad)
    )


@pytest.mark.parametrize("num_candidates", [2, 6])
def test_scores_depend_on_nothing_but_their_candidate_and_their_past(num_candidates, device):
    inputs = make_inputs([6, 9, 4], num_candidates, dtype=torch.float32, rows=40).to(device)
    history, candidates, positions, _ = inputs.indices
    options = dropout(DROPOUT, device)
    before = inputs.score(**options)
    watched = 10  # the fifth token of the second session
    later = (positions > watched) | (positions < 6)
    other = candidates.clone()
    other[:, 1:] = (other[:, 1:] + 1) % 40
    changed = inputs.swap(
        history_rows=torch.where(later, (history + 1) % 40, history), candidate_rows=other
    )
    after = changed.score(**options)
    torch.testing.assert_close(after[watched, 0], before[watched, 0], rtol=0, atol=0)
    moved = changed.swap(history_rows=torch.where(positions == watched, history + 1, history) % 40)
    assert not torch.equal(moved.score(**options)[watched, 0], before[watched, 0])


def test_tokens_past_max_history_do_not_count(device):
    inputs = make_inputs([20], 3, max_history=4, rows=40).to(device)
    history, _, positions, _ = inputs.indices
    old = inputs.swap(history_rows=torch.where(positions < 16, (history + 7) % 40, history))
    torch.testing.assert_close(old.score()[19], inputs.score()[19], rtol=0, atol=0)
    near = inputs.swap(history_rows=torch.where(positions == 16, (history + 7) % 40, history))
    assert not torch.equal(near.score()[19], inputs.score()[19])


def test_order_of_positions_changes_nothing(device):
    inputs = make_inputs([20, 9], 2, max_history=30).to(device)
    _, candidates, positions, _ = inputs.indices
    mixed = torch.randperm(29, generator=torch.Generator().manual_seed(0)).to(device)
    shuffled = inputs.swap(candidate_rows=candidates[mixed], positions=positions[mixed])
    torch.testing.assert_close(shuffled.score(), inputs.score()[mixed])


@pytest.mark.parametrize("lengths", [[3, 0, 7], [0, 0], []], ids=str)
@pytest.mark.parametrize("num_candidates", [0, 2])
def test_nothing_to_score(lengths, num_candidates, device):
    inputs = make_inputs(lengths, num_candidates, positions=[] if num_candidates else None)
    inputs = inputs.to(device)
    num_positions = len(inputs.indices[2])
    out, *grads = inputs.score_and_grads(torch.zeros(num_positions, num_candidates, 2))
    assert out.shape == (num_positions, num_candidates, 2)
    assert all(not grad.any() for grad in grads)


def test_dropout_keeps_the_mean_and_follows_its_seed(device):
    inputs = make_inputs([6], 2, dtype=torch.float32).to(device)
    rng, plain = RNG.to(device), inputs.score()
    first = inputs.score(dropout_p=0.3, rng=rng)
    torch.testing.assert_close(inputs.score(dropout_p=0.3, rng=rng), first, rtol=0, atol=0)
    for other in ({"rng": rng + 1}, {"rng": rng, "site": 1}):
        assert not torch.allclose(inputs.score(dropout_p=0.3, **other), first)
    torch.testing.assert_close(inputs.score(dropout_p=0.3), plain)
    torch.testing.assert_close(inputs.score(dropout_p=0.0, rng=rng), plain)


@pytest.mark.parametrize("num_candidates", [1, 9])
def test_results_do_not_depend_on_the_number_of_threads(num_candidates):
    needs_kernel("factor_score", torch.device("cpu"))
    inputs = make_inputs([40] * 20, num_candidates, dtype=torch.float32, max_history=40, rows=60)
    grad = torch.randn(800, num_candidates, 2)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            results.append(inputs.score_and_grads(grad, rng=RNG, **DROPOUT))
    finally:
        torch.set_num_threads(before)
    for one, four in zip(*results, strict=True):
        torch.testing.assert_close(one, four, rtol=0, atol=0)


@pytest.mark.parametrize("isa", ["base", "v3"])
def test_other_instruction_sets_agree(isa, device):
    if device.type != "cpu":
        pytest.skip("the instruction sets are the CPU's")
    needs_kernel("factor_score", device)
    picked = "accurate and float and dropout and (runs or candidates)"
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", picked]
    done = subprocess.run(
        run, cwd=ROOT, env={**os.environ, "MFGAN_ISA": isa}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "passed" in done.stdout


def test_compiles_without_a_break(device):
    inputs = make_inputs([4, 3], 2, dtype=torch.float32).to(device)
    rng = RNG.to(device)

    def score(*floats):
        return factor_score(*floats, *inputs.indices, 4, num_heads=2, rng=rng, dropout_p=0.3)

    compiled = torch.compile(score, fullgraph=True, backend="aot_eager")
    out, expected = compiled(*inputs.floats), score(*inputs.floats)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(out, inputs.floats, grad),
        torch.autograd.grad(expected, inputs.floats, grad),
    )


@pytest.mark.parametrize("name", [name for name in FLOATS if name not in ("query", "ff1_weight")])
def test_refuses_floats_of_other_shapes(name):
    inputs = make_inputs([3], 2)
    wrong = inputs.swap(**{name: torch.zeros(2, 1, 7, dtype=torch.float64)})
    with pytest.raises(ValueError, match=rf"factor_score: {name} must be \(.*got "):
        wrong.score()


@pytest.mark.parametrize("name", [name for name in FLOATS if name != "query"])
def test_refuses_floats_of_another_dtype(name):
    inputs = make_inputs([3], 2)
    wrong = dict(zip(FLOATS, inputs.floats, strict=True))[name].detach().float()
    with pytest.raises(TypeError, match=f"factor_score: {name} must be float64, got float32"):
        inputs.swap(**{name: wrong}).score()


def index(*values, dtype=torch.int64):
    return torch.tensor(values, dtype=dtype)


@pytest.mark.parametrize(
    ("change", "keywords", "error", "message"),
    [
        ({"query": torch.zeros(2, 9)}, {}, ValueError, r"query must be \(F, U, D\), got \(2, 9\)"),
        ({"ff1_weight": torch.zeros(2, 9)}, {}, ValueError, r"ff1_weight must be \(F, W, D\)"),
        ({"query": torch.zeros(2, 9, 6).long()}, {}, TypeError, "query must be float32, float64"),
        ({"history_rows": index(0, 1, 2).int()}, {}, TypeError, "history_rows must be int64"),
        ({"cu_seqlens": index(0, 3)}, {}, TypeError, "cu_seqlens must be int32, got int64"),
        ({"history_rows": torch.zeros(3, 1).long()}, {}, ValueError, "must have 1 dimensions"),
        ({"candidate_rows": index(1, 2, 3)}, {}, ValueError, "must have 2 dimensions"),
        ({"positions": index(1, 2)}, {}, ValueError, "a row for each of 2 positions, got 3"),
        ({"cu_seqlens": index(dtype=torch.int32)}, {}, ValueError, r"must be \(num_sessions \+ 1"),
        ({"cu_seqlens": index(1, 3).int()}, {}, ValueError, "must start at 0, got 1"),
        ({"cu_seqlens": index(0, 4, 3).int()}, {}, ValueError, "never decrease, got 4 before 3"),
        ({"cu_seqlens": index(0, 2).int()}, {}, ValueError, "end at total_tokens 3, got 2"),
        ({"history_rows": index(0, 9, 2)}, {}, ValueError, "history_rows must be from 0 to 8, got"),
        ({"candidate_rows": index(0, -1, 2)[:, None]}, {}, ValueError, "from 0 to 8, got -1"),
        ({"positions": index(0, 1, 3)}, {}, ValueError, "positions must be from 0 to 2, got 3"),
        ({}, {"num_heads": 4}, ValueError, "num_heads must divide D = 6, got 4"),
        ({}, {"num_heads": 0}, ValueError, "num_heads must divide D = 6, got 0"),
        ({}, {"max_history": 5}, ValueError, "max_history must be from 1 to 4.* got 5"),
        ({}, {"max_history": 0}, ValueError, "max_history must be from 1 to 4.* got 0"),
        ({}, {"dropout_p": 1.0}, ValueError, r"dropout_p must be in \[0, 1\), got 1.0"),
        ({}, {"dropout_p": 0.1, "rng": index(1)}, ValueError, r"rng must be \(2,\), got \(1,\)"),
        ({}, {"dropout_p": 0.1, "rng": torch.zeros(2)}, TypeError, "rng must be int64, got float"),
    ],
)
def test_refuses_with_a_reason(change, keywords, error, message):
    inputs = make_inputs([3], 1).swap(**change)
    keywords = {"num_heads": 2, "max_history": 4, **keywords}
    with pytest.raises(error, match=f"factor_score: .*{message}"):
        factor_score(*inputs.floats, *inputs.indices, **keywords)
