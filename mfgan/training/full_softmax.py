"""The softmax over all items as a loss of packed hidden states, a few rows at a time.

``(total_tokens, num_items)`` is never held: loss and gradients are made together while the logits
of a chunk of rows are at hand, in memory that is taken once and used for every chunk.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mfgan.training.chunks import loss_chunks

if TYPE_CHECKING:
    from mfgan.models.seen import Seen

# A probability below this is no longer exact to float32's relative precision.
_TINY = 1e-30


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
        precision: ``torch.bfloat16`` rounds what goes into matrix products and what comes out of
            them; the softmax and all sums over chunks stay as wide as ``hidden``.
        seen: What each row's session has had, which is left out of its softmax, the target apart.

    Returns:
        A scalar; gradients flow to ``hidden`` and ``table``, once.
    """
    return _SoftmaxCrossEntropy.apply(  # type: ignore[no-any-return, no-untyped-call]
        hidden, table, targets, label_smoothing, precision, seen
    )


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
        # In place only where torch is known to work so; else taken when it is first wanted.
        shared = not self.lowered and hidden.device.type == "cpu"
        self._wide = self._narrow if shared else None
        self._full = hidden.dtype

    def logits(self, hidden: Tensor) -> Tensor:
        """``(rows, num_items)`` of a chunk's states, in the precision of products."""
        out = self._narrow[: len(hidden)]
        return torch.mm(hidden.to(self._dtype), self._items.T, out=out)

    def wide(self, num_rows: int) -> Tensor:
        """``(num_rows, num_items)`` of full width; it may be the memory of the logits."""
        if self._wide is None:
            self._wide = torch.empty_like(self._narrow, dtype=self._full)
        return self._wide[:num_rows]

    def wide_logits(self, hidden: Tensor) -> Tensor:
        """``(rows, num_items)`` of a chunk's states, of full width."""
        logits = self.logits(hidden)
        return self.wide(len(logits)).copy_(logits) if self.lowered else logits

    def add_gradients(
        self, grad: Tensor, hidden: Tensor, grad_hidden: Tensor, grad_items: Tensor
    ) -> None:
        """From those of the logits to those of a chunk's states, and onto those of the items.

        Args:
            grad: ``(rows, num_items)``, of full width.
            hidden: ``(rows, hidden_dim)``, the chunk's states, with weights of the rows if any.
            grad_hidden: ``(rows, hidden_dim)``, overwritten.
            grad_items: ``(num_items, hidden_dim)``, added to.
        """
        if not self.lowered:
            torch.mm(grad, self._items, out=grad_hidden)
            grad_items.addmm_(grad.T, hidden)
            return
        narrow = self._narrow[: len(grad)].copy_(grad)
        grad_hidden.copy_(narrow @ self._items)
        grad_items += narrow.T @ hidden.to(self._dtype)


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
        items, columns = table[1:], (targets - 1).clamp_min(0)[:, None]
        weights = (targets > 0).to(hidden.dtype)
        weights = weights / weights.sum().clamp_min(1)
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        chosen = hidden.new_empty(hidden.shape[0], 1)
        asks = _asks(hidden)
        chunks = loss_chunks(hidden, items.shape[0])
        block = LogitBlock(hidden, items, chunks, precision)
        for rows in chunks:
            logits = block.logits(hidden[rows])
            if seen is not None:
                seen.hide(logits, rows, kept=targets[rows])
            out = block.wide(len(logits))
            if asks:
                torch.softmax(logits, 1, dtype=hidden.dtype, out=out)
                chosen[rows] = out.gather(1, columns[rows])
            else:
                torch.log_softmax(logits, 1, dtype=hidden.dtype, out=out)
                chosen[rows] = out.gather(1, columns[rows])
                out.exp_()
            if wanted:
                weighted = hidden[rows] * weights[rows, None]
                block.add_gradients(out, weighted, grad_hidden[rows], grad_table[1:])
        log_p = chosen[:, 0]
        if asks:
            log_p = _exact_log(log_p, hidden, items, columns, seen)
        loss = -(weights * log_p).sum()
        if smoothing:
            # mean of log p = mean logit - lse, and log p of the target = its logit - lse
            gap = (hidden * (items.mean(0) - items[columns[:, 0]])).sum(1)
            loss = loss - smoothing * (weights * gap).sum()
        if wanted:
            # What is asked of the probabilities: the target's share, and if smoothed everyone's.
            weighted = weights[:, None] * hidden
            grad_hidden -= (1 - smoothing) * items[columns[:, 0]]
            grad_table.index_add_(0, columns[:, 0] + 1, (smoothing - 1) * weighted)
            if smoothing:
                grad_hidden -= smoothing * items.mean(0)
                grad_table[1:] -= smoothing / items.shape[0] * weighted.sum(0)
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


def _exact_log(
    chosen: Tensor, hidden: Tensor, items: Tensor, columns: Tensor, seen: "Seen | None"
) -> Tensor:
    """The log of probabilities, those too small for float32 worked out from their logits."""
    (low,) = torch.nonzero(chosen < _TINY, as_tuple=True)
    log_p = chosen.clamp_min(_TINY).log()
    for part in loss_chunks(low, items.shape[0]):
        rows = low[part]
        logits = hidden[rows] @ items.T
        if seen is not None:
            seen.hide(logits, rows, kept=columns[rows, 0] + 1)
        exact = torch.log_softmax(logits, 1)
        log_p[rows] = exact.gather(1, columns[rows])[:, 0]
    return log_p
