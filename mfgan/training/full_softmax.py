"""The softmax over all items as a loss of packed hidden states, a few rows at a time.

``(total_tokens, num_items)`` is never held: loss and gradients are made together while the logits
of a chunk of rows are at hand, in memory that is taken once and used for every chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mfgan.ops import softmax_choices
from mfgan.training.chunks import loss_chunks

if TYPE_CHECKING:
    from mfgan.models.seen import Seen

# No probability is left of such a logit, and unlike infinity it may be multiplied by that.
HIDDEN = -1e4


@dataclass(frozen=True)
class ChoicesLoss:
    """A weighted log-likelihood and, detached, what it consists of.

    Args:
        loss: A scalar; gradients flow to hidden states and table, once.
        log_probs: ``(n, num_choices)``.
        entropy: ``(n,)``, of each row's distribution; None where it was not wanted.
    """

    loss: Tensor
    log_probs: Tensor
    entropy: Tensor | None


def choices_loss(
    hidden: Tensor,
    table: Tensor,
    choices: Tensor,
    weights: Tensor,
    *,
    precision: torch.dtype = torch.float32,
    seen: "Seen | None" = None,
    kept: Tensor | None = None,
    entropy: bool = False,
) -> ChoicesLoss:
    """``-sum weights * log softmax(hidden table^T)[choices]``, a few choices a row.

    Args:
        hidden: ``(n, hidden_dim)``.
        table: ``(num_items + 1, hidden_dim)``; row 0 is no item.
        choices: ``(n, num_choices)`` int64 items.
        weights: ``(n, num_choices)``; those of a row may have any sum and any sign.
        precision: ``torch.bfloat16`` rounds what goes into matrix products and what comes out of
            them; logarithms and all sums over chunks stay as wide as ``hidden``.
        seen: What each row's session has had, which is left out of its softmax.
        kept: ``(n,)`` int64 items that are not left out, 0 for none.
        entropy: Whether the distributions' entropy is wanted too.

    Returns:
        The loss and its parts.
    """
    found = _ChoicesLoss.apply(  # type: ignore[no-untyped-call]
        hidden, table, choices, weights, precision, seen, kept, entropy
    )
    return ChoicesLoss(*found)


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

    Args:
        hidden: ``(n, hidden_dim)``.
        table: ``(num_items + 1, hidden_dim)``; row 0 is no item.
        targets: ``(n,)`` int64, the true next item of each row, 0 where there is none; such rows
            count for nothing.
        label_smoothing: Share of the target's probability that is spread over all items.
        precision: As of `choices_loss`.
        seen: What each row's session has had, which is left out of its softmax, the target apart.

    Returns:
        A scalar; gradients flow to ``hidden`` and ``table``, once.
    """
    weights = (targets > 0).to(hidden.dtype)
    weights = weights / weights.sum().clamp_min(1)
    # Some item where there is none: its weight is 0.
    choices = targets.clamp_min(1)
    loss = choices_loss(
        hidden,
        table,
        choices[:, None],
        weights[:, None],
        precision=precision,
        seen=seen,
        kept=targets,
    ).loss
    if label_smoothing:
        # mean of log p = mean logit - lse, and log p of the target = its logit - lse
        gap = (hidden * (table[1:].mean(0) - F.embedding(choices, table))).sum(1)
        loss = loss - label_smoothing * (weights * gap).sum()
    return loss


class LogitBlock:
    """Memory for the logits of a chunk of rows, and for what becomes of them.

    Args:
        hidden: ``(n, hidden_dim)``, of all rows.
        items: ``(num_items, hidden_dim)``.
        chunks: The rows of each chunk, none longer than the first.
        precision: Of the matrix products; results are as wide as ``hidden``.
    """

    def __init__(
        self, hidden: Tensor, items: Tensor, chunks: Sequence[slice], precision: torch.dtype
    ) -> None:
        num_rows = chunks[0].stop if chunks else 0
        self.lowered = precision == torch.bfloat16
        self._dtype = precision if self.lowered else hidden.dtype
        self._items = items.to(self._dtype)
        self._narrow = hidden.new_empty(num_rows, len(items), dtype=self._dtype)
        self._full = hidden.dtype
        self._wide: Tensor | None = None  # taken when it is first wanted

    def logits(self, hidden: Tensor) -> Tensor:
        """``(rows, num_items)`` of a chunk's states, in the precision of products."""
        out = self._narrow[: len(hidden)]
        return torch.mm(hidden.to(self._dtype), self._items.T, out=out)

    def wide_logits(self, hidden: Tensor) -> Tensor:
        """``(rows, num_items)`` of a chunk's states, of full width."""
        logits = self.logits(hidden)
        if not self.lowered:
            return logits
        if self._wide is None:
            self._wide = torch.empty_like(self._narrow, dtype=self._full)
        return self._wide[: len(logits)].copy_(logits)

    def add_gradients(
        self, grad: Tensor, hidden: Tensor, grad_hidden: Tensor, grad_items: Tensor
    ) -> None:
        """From those of the logits to those of a chunk's states, and onto those of the items.

        Args:
            grad: ``(rows, num_items)``, of full width or in the precision of products.
            hidden: ``(rows, hidden_dim)``, the chunk's states, with weights of the rows if any.
            grad_hidden: ``(rows, hidden_dim)``, overwritten.
            grad_items: ``(num_items, hidden_dim)``, added to.
        """
        if not self.lowered:
            torch.mm(grad, self._items, out=grad_hidden)
            grad_items.addmm_(grad.T, hidden)
            return
        narrow = grad if grad.dtype == self._dtype else self._narrow[: len(grad)].copy_(grad)
        grad_hidden.copy_(narrow @ self._items)
        grad_items += narrow.T @ hidden.to(self._dtype)


class _ChoicesLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        choices: Tensor,
        weights: Tensor,
        precision: torch.dtype,
        seen: "Seen | None",
        kept: Tensor | None,
        entropy: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        log_probs = torch.empty_like(weights)
        found = hidden.new_empty(len(hidden)) if entropy else None
        total = weights.sum(1, keepdim=True)
        columns = choices - 1
        chunks = loss_chunks(hidden, len(table) - 1)
        block = LogitBlock(hidden, table[1:], chunks, precision)
        for rows in chunks:
            logits = block.logits(hidden[rows])
            if seen is not None:
                of_rows = None if kept is None else kept[rows]
                seen.hide(logits, rows, kept=of_rows, value=HIDDEN)
            log_probs[rows], of_chunk = softmax_choices(logits, columns[rows], entropy=entropy)
            if found is not None and of_chunk is not None:
                found[rows] = of_chunk
            if wanted:
                # The logits' gradient is the row's weight times what stands in their place now.
                weighted = hidden[rows] * total[rows]
                block.add_gradients(logits, weighted, grad_hidden[rows], grad_table[1:])
        if wanted:
            grad_hidden.mul_(total)
            for choice, weight in zip(choices.unbind(1), weights.unbind(1), strict=True):
                grad_hidden -= weight[:, None] * table[choice]
                grad_table.index_add_(0, choice, -weight[:, None] * hidden)
            ctx.save_for_backward(grad_hidden, grad_table)
        ctx.mark_non_differentiable(log_probs, *(() if found is None else (found,)))
        return -(weights * log_probs).sum(), log_probs, found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_table = ctx.saved_tensors
        return grad_hidden * grad, grad_table * grad, *[None] * 6
