"""Losses of next-item prediction over packed hidden states, from drawn items.

None of them holds ``(total_tokens, num_items)``. Each takes ``hidden`` ``(n, hidden_dim)``, the
item table ``(num_items + 1, hidden_dim)``, whose row 0 is no item, and the true next item of each
row of ``hidden``, 0 where there is none; such rows count for nothing.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mfgan.training.chunks import loss_chunks


def sampled_softmax(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    log_expected: Tensor,
    *,
    sparse: bool = False,
) -> Tensor:
    """Mean cross-entropy of the softmax over the target and drawn items, with logQ correction.

    The drawn items stand for the whole catalogue: each one's exponential counts ``1 / expected``
    times, so that their sum estimates that over all items but the target without bias (Bengio and
    Senecal 2008). The target itself is always there and needs no correction; where it was drawn
    too, it counts once.

    Args:
        hidden: ``(n, hidden_dim)``.
        table: ``(num_items + 1, hidden_dim)``.
        targets: ``(n,)`` int64.
        negatives: ``(num_negatives,)`` int64, shared by all rows.
        log_expected: ``(num_negatives,)``: the log of how often each was expected to be drawn.
        sparse: Give the table a sparse gradient of the rows that were read.

    Returns:
        A scalar.
    """
    true_rows = F.embedding(targets, table, sparse=sparse)
    drawn_rows = F.embedding(negatives, table, sparse=sparse)
    drawn = hidden @ drawn_rows.T - log_expected
    drawn = drawn.masked_fill(targets[:, None] == negatives, -torch.inf)
    true = (hidden * true_rows).sum(1, keepdim=True)
    lse = torch.cat([true, drawn], 1).logsumexp(1)
    return _mean_over_targets(lse - true[:, 0], targets)


def gbce(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    t: float,
    sparse: bool = False,
) -> Tensor:
    """Generalised binary cross-entropy (gSASRec, Petrov and Macdonald 2023, eq. 9 and 10).

    ``beta * -log sigmoid(s+) + sum_k -log(1 - sigmoid(s-_k))`` with
    ``beta = a (t (1 - 1 / a) + 1 / a)`` and ``a = k / (num_items - 1)``. ``t = 0`` and one negative
    are the plain binary cross-entropy of SASRec and of the published MFGAN.

    Args:
        hidden: ``(n, hidden_dim)``.
        table: ``(num_items + 1, hidden_dim)``.
        targets: ``(n,)`` int64.
        negatives: ``(n, k)`` int64.
        t: Calibration, from 0 (none) to 1 (full).
        sparse: Give the table a sparse gradient of the rows that were read.

    Returns:
        A scalar, the mean over the rows that have a target.
    """
    rate = negatives.shape[1] / max(1, table.shape[0] - 2)
    beta = rate * t + 1 - t
    candidates = torch.cat([targets[:, None], negatives], 1)
    scores = candidate_scores(hidden, table, candidates, sparse=sparse)
    terms = beta * F.softplus(-scores[:, 0]) + F.softplus(scores[:, 1:]).sum(1)
    return _mean_over_targets(terms, targets)


def _mean_over_targets(terms: Tensor, targets: Tensor) -> Tensor:
    has_target = targets > 0
    return torch.where(has_target, terms, 0.0).sum() / has_target.sum().clamp_min(1)


def candidate_scores(
    hidden: Tensor, table: Tensor, candidates: Tensor, *, sparse: bool = False
) -> Tensor:
    """Each row's scores of candidates of its own, gathered a chunk of rows at a time.

    Args:
        hidden: ``(n, hidden_dim)``.
        table: ``(num_items + 1, hidden_dim)``.
        candidates: ``(n, k)`` int64.
        sparse: Give the table a sparse gradient of the rows that were read.

    Returns:
        ``(n, k)``.
    """
    return _CandidateScores.apply(  # type: ignore[no-any-return, no-untyped-call]
        hidden, table, candidates, sparse
    )


class _CandidateScores(torch.autograd.Function):
    # With many candidates a row, scoring the whole catalogue by one matrix product is cheaper than
    # gathering rows one by one; so is collecting their gradient.
    _ITEMS_PER_CANDIDATE = 32

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, candidates: Tensor, sparse: bool
    ) -> Tensor:
        ctx.save_for_backward(hidden, table, candidates)
        width = candidates.shape[1]
        ctx.sparse = sparse
        ctx.whole = not sparse and table.shape[0] <= width * _CandidateScores._ITEMS_PER_CANDIDATE
        scores = hidden.new_empty(candidates.shape)
        for rows in loss_chunks(hidden, table.shape[0] if ctx.whole else width * hidden.shape[1]):
            part, chosen = hidden[rows], candidates[rows]
            if ctx.whole:
                scores[rows] = (part @ table.T).gather(1, chosen)
            else:
                scores[rows] = torch.bmm(F.embedding(chosen, table), part[:, :, None])[..., 0]
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden, table, candidates = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        if ctx.whole:
            grad_table = torch.zeros_like(table)
            for rows in loss_chunks(hidden, table.shape[0]):
                part = hidden.new_zeros(candidates[rows].shape[0], table.shape[0])
                part.scatter_add_(1, candidates[rows], grad[rows])
                torch.mm(part, table, out=grad_hidden[rows])
                grad_table.addmm_(part.T, hidden[rows])
            return grad_hidden, grad_table, None, None
        width = candidates.shape[1] * hidden.shape[1]
        for rows in loss_chunks(hidden, width):
            rows_of = F.embedding(candidates[rows], table)
            grad_hidden[rows] = torch.bmm(grad[rows, None], rows_of)[:, 0]
        values = (grad[..., None] * hidden[:, None]).flatten(0, 1)
        if ctx.sparse:
            grad_table = torch.sparse_coo_tensor(
                candidates.flatten()[None], values, table.shape, check_invariants=False
            )
        else:
            grad_table = torch.zeros_like(table).index_add_(0, candidates.flatten(), values)
        return grad_hidden, grad_table, None, None
