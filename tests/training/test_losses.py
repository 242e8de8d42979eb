"""Each loss against its plain definition in float64, gradients too."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mfgan.training import chunks, losses
from mfgan.training.full_softmax import softmax_cross_entropy
from mfgan.training.losses import (
    candidate_scores,
    gbce,
    sampled_softmax,
)

ROWS, ITEMS, DIM = 37, 19, 6


@pytest.fixture
def inputs():
    draws = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, DIM, generator=draws, dtype=torch.float64).requires_grad_()
    table = torch.randn(ITEMS + 1, DIM, generator=draws, dtype=torch.float64).requires_grad_()
    targets = torch.randint(0, ITEMS + 1, (ROWS,), generator=draws)
    targets[[3, 11]] = 0
    return hidden, table, targets


@pytest.fixture(params=[1 << 20, 64], ids=["one chunk", "many chunks"])
def _chunks(request, monkeypatch):
    monkeypatch.setattr(chunks, "_OF_A_LOSS_ON_CPU", request.param)


def agree(actual, expected, inputs):
    hidden, table, _ = inputs
    torch.testing.assert_close(actual, expected)
    ours = torch.autograd.grad(3 * actual, (hidden, table))
    theirs = torch.autograd.grad(3 * expected, (hidden, table))
    for mine, other in zip(ours, theirs, strict=True):
        mine = mine.to_dense() if mine.is_sparse else mine
        torch.testing.assert_close(mine, other)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_softmax(inputs, smoothing):
    hidden, table, targets = inputs
    actual = softmax_cross_entropy(hidden, table, targets, label_smoothing=smoothing)
    logits = hidden @ table[1:].T
    expected = F.cross_entropy(logits, targets - 1, ignore_index=-1, label_smoothing=smoothing)
    agree(actual, expected, inputs)


def test_softmax_is_exact_where_a_probability_vanishes():
    hidden = torch.tensor([[40.0, 0.0], [1.0, 0.0]], requires_grad=True)
    table = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 1.0]])
    loss = softmax_cross_entropy(hidden, table, torch.tensor([2, 2]))
    expected = (160 + 4 + math.log1p(math.exp(-4))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert hidden.grad.isfinite().all()


def test_softmax_in_bf16_is_as_accurate_as_plain_pytorch_in_bf16():
    draws = torch.Generator().manual_seed(3)
    exact = [torch.randn(size, 50, generator=draws).double() for size in (400, 901)]
    exact[1] *= 0.3
    targets = torch.randint(1, 901, (400,), generator=draws)

    def run(function, dtype):
        leaves = [x.to(dtype).requires_grad_() for x in exact]
        loss = function(*leaves)
        found = [loss.detach(), *torch.autograd.grad(loss, leaves)]
        return [x.double() for x in found]

    def plain(hidden, table):
        return F.cross_entropy(hidden @ table[1:].T, targets - 1)

    def ours(hidden, table):
        return softmax_cross_entropy(hidden, table, targets, precision=torch.bfloat16)

    eps = torch.finfo(torch.bfloat16).eps
    wide = run(lambda hidden, table: softmax_cross_entropy(hidden, table, targets), torch.float32)
    for mine, half, right, other in zip(
        run(ours, torch.float32),
        run(plain, torch.bfloat16),
        run(plain, torch.float64),
        wide,
        strict=True,
    ):
        worst = (mine - right).abs().max()
        assert worst <= 2 * (half - right).abs().max() + eps * right.abs().max()
        assert worst > 10 * (other - right).abs().max()  # bf16 it was


@pytest.mark.parametrize("rows", [0, 3])
def test_softmax_without_any_target_is_zero(inputs, rows):
    hidden, table, _ = inputs
    loss = softmax_cross_entropy(hidden[:rows], table, torch.zeros(rows, dtype=torch.int64))
    assert loss.item() == 0
    gradient, _ = torch.autograd.grad(loss, (hidden, table))
    assert gradient.abs().sum() == 0


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_softmax_never_holds_all_logits():
    hidden = torch.randn(4000, 8, requires_grad=True)
    table = torch.randn(2001, 8, requires_grad=True)
    with Largest() as seen:
        softmax_cross_entropy(hidden, table, torch.randint(1, 2001, (4000,))).backward()
    assert 0 < seen.elements <= chunks._OF_A_LOSS_ON_CPU < 4000 * 2000 / 4


@pytest.mark.parametrize("sparse", [False, True])
def test_sampled_softmax(inputs, sparse):
    hidden, table, targets = inputs
    draws = torch.Generator().manual_seed(1)
    negatives = torch.randint(1, ITEMS + 1, (7,), generator=draws)
    log_expected = torch.rand(7, generator=draws, dtype=torch.float64)
    actual = sampled_softmax(hidden, table, targets, negatives, log_expected, sparse=sparse)
    terms = []
    for row in range(ROWS):
        if targets[row] == 0:
            continue
        true = hidden[row] @ table[targets[row]]
        total = true.exp()
        for place, item in enumerate(negatives):
            if item != targets[row]:
                total = total + (hidden[row] @ table[item]).exp() / log_expected[place].exp()
        terms.append(total.log() - true)
    agree(actual, torch.stack(terms).mean(), inputs)


def test_sampled_softmax_over_every_item_is_the_full_one(inputs):
    hidden, table, targets = inputs
    every = torch.arange(1, ITEMS + 1)
    actual = sampled_softmax(hidden, table, targets, every, torch.zeros(ITEMS).double())
    agree(actual, softmax_cross_entropy(hidden, table, targets), inputs)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("count", "per_candidate"), [(1, 32), (4, 32), (4, 1)])
def test_gbce(inputs, count, per_candidate, sparse, monkeypatch):
    monkeypatch.setattr(losses._CandidateScores, "_ITEMS_PER_CANDIDATE", per_candidate)
    hidden, table, targets = inputs
    draws = torch.Generator().manual_seed(2)
    negatives = torch.randint(1, ITEMS + 1, (ROWS, count), generator=draws)
    actual = gbce(hidden, table, targets, negatives, t=0.75, sparse=sparse)
    rate = count / (ITEMS - 1)
    beta = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
    has_target = targets > 0
    true = (hidden * table[targets]).sum(1).sigmoid() ** beta
    drawn = 1 - torch.einsum("nd,nkd->nk", hidden, table[negatives]).sigmoid()
    terms = -true.log() - drawn.log().sum(1)
    agree(actual, terms[has_target].mean(), inputs)


def test_gbce_without_calibration_is_binary_cross_entropy(inputs):
    hidden, table, targets = inputs
    negatives = torch.ones(ROWS, 1, dtype=torch.int64)
    actual = gbce(hidden, table, targets, negatives, t=0.0)
    has_target = targets > 0
    logits = hidden @ table.T
    true, false = logits.gather(1, targets[:, None]), logits[:, 1:2]
    expected = F.binary_cross_entropy_with_logits(
        torch.cat([true, false], 1)[has_target],
        torch.tensor([1.0, 0.0]).double().expand(int(has_target.sum()), 2),
    )
    agree(actual, 2 * expected, inputs)


def test_sparse_gradients_hold_the_rows_read_and_no_more(inputs):
    hidden, table, _ = inputs
    candidate_scores(hidden, table, torch.full((ROWS, 2), 5), sparse=True).sum().backward()
    assert table.grad.is_sparse
    assert table.grad.coalesce().indices().tolist() == [[5]]
