"""Candidates that the generator proposes for the place after a position of a history."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from mfgan.data.batch import JaggedBatch
from mfgan.errors import MfganError

Method = Literal["multinomial", "gumbel", "top"]
LOGITS_AT_ONCE = 1 << 22  # 16 MiB of float32: logits of all items are held for a few positions only


class Proposes(Protocol):
    """What a generator gives here: logits of all items, column 0 excluded."""

    def logits(self, hidden: Tensor) -> Tensor:
        """``(n, hidden_dim)`` to ``(n, num_items + 1)``."""


@dataclass(frozen=True)
class Draw:
    """Candidates of some positions.

    Args:
        items: ``(num_positions, num_candidates)`` int64 item_idx, in the order they were drawn, or
            by descending probability for ``top``.
        log_probs: ``(num_positions, num_candidates)``, log-probability of each in the generator's
            distribution over all items.
        threshold: ``(num_positions,)``, of ``gumbel`` only: the largest perturbed log-probability
            that was not drawn (kappa of Kool et al., 2020).
    """

    items: Tensor
    log_probs: Tensor
    threshold: Tensor | None = None


def choose_positions(batch: JaggedBatch, per_session: int, rng: np.random.Generator) -> Tensor:
    """Token positions to draw candidates at.

    Args:
        batch: The sessions.
        per_session: Distinct positions drawn a session, all of them where it is shorter; 0 takes
            the last one alone.
        rng: Where the draws come from.

    Returns:
        ``(num_positions,)`` int64 token index, ascending.
    """
    if per_session == 0:
        return batch.last_tokens()
    offsets = batch.offsets.numpy()
    lengths = np.diff(offsets)
    sessions = np.repeat(np.arange(len(lengths)), lengths)
    shuffled = np.lexsort((rng.random(len(sessions)), sessions))
    rank = np.arange(len(sessions)) - offsets[sessions]
    chosen = np.sort(shuffled[rank < per_session])
    return torch.from_numpy(chosen).to(batch.items.device)


def draw_candidates(
    hidden: Tensor,
    generator: Proposes,
    count: int,
    *,
    method: Method,
    rng: torch.Generator,
    exclude: Tensor | None = None,
) -> Draw:
    """Draw items from the generator's distribution, a few positions at once.

    Args:
        hidden: ``(num_positions, hidden_dim)`` states of the generator.
        generator: Whose ``logits`` give the distribution.
        count: Candidates a position.
        method: ``multinomial`` draws independently, so that an item may come twice; ``gumbel``
            without replacement; ``top`` takes the most probable.
        rng: Where the draws come from; on the CPU.
        exclude: ``(num_positions,)`` item_idx never drawn at its position, such as the true item.

    Returns:
        The draw; it has no gradient.

    Raises:
        MfganError: Fewer items than candidates where none may come twice, or none at all.
    """
    with torch.no_grad():
        parts = [
            _draw(logits, part, count, method, rng, exclude)
            for part, logits in logit_chunks(hidden, generator)
        ]
    if not parts:
        empty = torch.empty(0, count, device=hidden.device)
        return Draw(empty.long(), empty)
    thresholds = [part.threshold for part in parts if part.threshold is not None]
    return Draw(
        torch.cat([part.items for part in parts]),
        torch.cat([part.log_probs for part in parts]),
        torch.cat(thresholds) if thresholds else None,
    )


def logit_chunks(hidden: Tensor, generator: Proposes) -> Iterator[tuple[slice, Tensor]]:
    """Logits of all items for a few positions at a time, with the slice that these are."""
    start, rows = 0, 256
    while start < len(hidden):
        part = slice(start, start + rows)
        logits = generator.logits(hidden[part])
        yield part, logits
        start = part.stop
        rows = max(1, LOGITS_AT_ONCE // logits.size(1))


def _draw(
    logits: Tensor,
    part: slice,
    count: int,
    method: Method,
    rng: torch.Generator,
    exclude: Tensor | None,
) -> Draw:
    total = logits.logsumexp(1, keepdim=True)
    left = logits.size(1) - 1 - (exclude is not None)
    if left < (1 if method == "multinomial" else count):
        raise MfganError(
            f"candidates: {count} a position need more items than the {left} that may be drawn"
        )
    if exclude is not None:
        logits = logits.scatter(1, exclude[part].unsqueeze(1), -torch.inf)
    threshold = None
    if method == "multinomial":
        items = _multinomial(logits, count, rng)
    elif method == "top":
        items = logits.topk(count, dim=1).indices
    else:
        noise = torch.empty(logits.shape, dtype=logits.dtype).exponential_(generator=rng)
        perturbed = (logits - total).sub_(noise.log_().to(logits.device))
        values, order = perturbed.topk(min(count + 1, perturbed.size(1)), dim=1)
        items = order[:, :count]
        threshold = values[:, count]
    return Draw(items, logits.gather(1, items) - total, threshold)


def _multinomial(logits: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Independent draws by inverting the cumulative distribution."""
    cumulative = logits.softmax(1).cumsum(1)
    total = cumulative[:, -1:]
    points = torch.rand(len(logits), count, generator=rng).to(logits) * total
    # Below the total, so that the first item whose sum exceeds a point is always a possible one.
    points = torch.minimum(points, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, points, right=True)
