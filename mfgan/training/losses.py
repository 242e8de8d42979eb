"""Losses of next-item prediction over packed hidden states.

None of them holds ``(total_tokens, num_items)``. Each takes ``hidden`` ``(n, hidden_dim)``, the
item table ``(num_items + 1, hidden_dim)``, whose row 0 is no item, and the true next item of each
row of ``hidden``, 0 where there is none; such rows count for nothing.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mfgan.training.chunks import even_chunks

if TYPE_CHECKING:
    from mfgan.models.seen import Seen

# Numbers held at once: few enough to stay near a core while they are worked on, or on a GPU as many
# as keep it busy with one launch.
_CHUNK_ELEMENTS = 1 << 20
_GPU_CHUNK_ELEMENTS = 1 << 26
# A probability below this is no longer exact to float32's relative precision.
_TINY = 1e-30


def has_bf16_products() -> bool:
    """Whether this processor multiplies bfloat16 matrices by instructions of its own."""
    asks = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(asks and asks())


def softmax_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    precision: torch.dtype = torch.float32,
    seen: "Seen | None" = None,
) -> Tensor:
    """Mean cross-entropy of the softmax over all items, or those that were not had yet.

    Loss and gradients come from one pass over chunks of rows, so that logits are made once and
    never kept.

    Args:
        hidden: ``(n, hidden_dim)``.
        table: ``(num_items + 1, hidden_dim)``.
        targets: ``(n,)`` int64.
        label_smoothing: Share of the target's probability that is spread over all items.
        precision: ``torch.bfloat16`` rounds what goes into matrix products and what comes out of
            them; the softmax and all sums over chunks stay as wide as ``hidden``.
        seen: What each row's session has had, which is left out of its softmax, the target apart.

    Returns:
        A scalar; gradients flow to ``hidden`` and ``table``, once.
    """
    return _SoftmaxCrossEntropy.apply(  # type: ignore[no-any-return, no-untyped-call]
        hidden, table, targets, label_smoothing, precision, seen
    )


class _SoftmaxCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        targets: Tensor,
        smoothing: float,
        precision: torch.dtype,
        seen: "Seen | None",
    ) -> Tensor:
        lowered = precision == torch.bfloat16
        factors = table[1:].to(precision) if lowered else table[1:]
        items, columns = table[1:], (targets - 1).clamp_min(0)[:, None]
        weights = (targets > 0).to(hidden.dtype)
        weights = weights / weights.sum().clamp_min(1)
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        chosen = hidden.new_empty(hidden.shape[0], 1)
        asks = _asks(hidden)
        for rows in _chunks(hidden, items.shape[0]):
            part = hidden[rows].to(precision) if lowered else hidden[rows]
            probabilities = part @ factors.T
            if seen is not None:
                seen.hide(probabilities, rows, kept=targets[rows])
            if not asks:
                log_p = torch.log_softmax(probabilities, 1, dtype=hidden.dtype)
                chosen[rows] = log_p.gather(1, columns[rows])
                probabilities = log_p.exp_().to(part.dtype)
            elif lowered:
                probabilities = torch.softmax(probabilities, 1, dtype=hidden.dtype)
                chosen[rows] = probabilities.gather(1, columns[rows])
                probabilities = probabilities.to(precision)
            else:
                torch.softmax(probabilities, 1, out=probabilities)
                chosen[rows] = probabilities.gather(1, columns[rows])
            if wanted and lowered:
                grad_hidden[rows] = probabilities @ factors
                weighted = (hidden[rows] * weights[rows, None]).to(precision)
                grad_table[1:] += probabilities.T @ weighted
            elif wanted:
                torch.mm(probabilities, items, out=grad_hidden[rows])
                grad_table[1:].addmm_(probabilities.T, part * weights[rows, None])
        log_p = chosen[:, 0]
        if asks:
            log_p = _exact_log(log_p, hidden, items, columns, seen)
        loss = -(weights * log_p).sum()
        if smoothing:
            # mean of log p = mean logit - lse, and log p of the target = its logit - lse
            gap = (hidden * (items.mean(0) - items[columns[:, 0]])).sum(1)
            loss = loss - smoothing * (weights * gap).sum()
        if wanted:
            grad_hidden -= (1 - smoothing) * items[columns[:, 0]]
            shares = (smoothing - 1) * weights[:, None] * hidden
            grad_table.index_add_(0, columns[:, 0] + 1, shares)
            if smoothing:
                grad_hidden -= smoothing * items.mean(0)
                grad_table[1:] -= smoothing / items.shape[0] * (weights[:, None] * hidden).sum(0)
            ctx.save_for_backward(grad_hidden.mul_(weights[:, None]), grad_table)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_table = ctx.saved_tensors
        return grad_hidden * grad, grad_table * grad, None, None, None, None


def _asks(hidden: Tensor) -> bool:
    """Whether to ask which probabilities are too small for a logarithm; a GPU would wait."""
    return hidden.device.type == "cpu"


def _chunks(hidden: Tensor, row_elements: int) -> list[slice]:
    elements = _CHUNK_ELEMENTS if hidden.device.type == "cpu" else _GPU_CHUNK_ELEMENTS
    return even_chunks(hidden.shape[0], elements // max(1, row_elements))


def _exact_log(
    chosen: Tensor, hidden: Tensor, items: Tensor, columns: Tensor, seen: "Seen | None"
) -> Tensor:
    """The log of probabilities, those too small for float32 worked out from their logits."""
    (low,) = torch.nonzero(chosen < _TINY, as_tuple=True)
    log_p = chosen.clamp_min(_TINY).log()
    for rows in torch.split(low, max(1, _CHUNK_ELEMENTS // items.shape[0])):
        logits = hidden[rows] @ items.T
        if seen is not None:
            seen.hide(logits, rows, kept=columns[rows, 0] + 1)
        exact = torch.log_softmax(logits, 1)
        log_p[rows] = exact.gather(1, columns[rows])[:, 0]
    return log_p


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
        for rows in _chunks(hidden, table.shape[0] if ctx.whole else width * hidden.shape[1]):
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
            for rows in _chunks(hidden, table.shape[0]):
                part = hidden.new_zeros(candidates[rows].shape[0], table.shape[0])
                part.scatter_add_(1, candidates[rows], grad[rows])
                torch.mm(part, table, out=grad_hidden[rows])
                grad_table.addmm_(part.T, hidden[rows])
            return grad_hidden, grad_table, None, None
        width = candidates.shape[1] * hidden.shape[1]
        for rows in _chunks(hidden, width):
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
