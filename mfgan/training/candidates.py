"""Candidates that the generator proposes for the place after a position of a history."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from mfgan.data.batch import JaggedBatch
from mfgan.errors import MfganError
from mfgan.models.relation_term import RelationScores
from mfgan.models.seen import Seen
from mfgan.training.chunks import even_chunks, logits_at_once
from mfgan.training.draws import Draws, exponential, uniform

Method = Literal["multinomial", "gumbel", "top"]
_BLOCK = 64  # items whose probabilities are summed before one of them is looked for


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


def choose_positions(
    batch: JaggedBatch, per_session: int, rng: np.random.Generator, *, only_new: bool = False
) -> Tensor:
    """Token positions to draw candidates at.

    Args:
        batch: The sessions.
        per_session: Distinct positions drawn a session, all of them where it is shorter; 0 takes
            the last one alone.
        rng: Where the draws come from.
        only_new: Leave out positions whose next item the session has had, unless none is left in
            the batch, and where the last ones are taken. Beside candidates that are never such
            items, a judge would learn nothing but that.

    Returns:
        ``(num_positions,)`` int64 token index, ascending.
    """
    if per_session == 0:
        return batch.last_tokens()
    sessions = _owners(batch.offsets)
    left_out = np.zeros(len(sessions), np.bool_)
    if only_new and not (repeated := _repeats_next(batch, sessions)).all():
        left_out = repeated
    shuffled = np.lexsort((rng.random(len(sessions)), left_out, sessions))
    rank = np.arange(len(sessions)) - batch.offsets.numpy()[sessions]
    chosen = np.sort(shuffled[(rank < per_session) & ~left_out[shuffled]])
    return torch.from_numpy(chosen).to(batch.items.device)


def _owners(offsets: Tensor) -> npt.NDArray[np.int64]:
    """The session of each token."""
    lengths = offsets.diff().cpu().numpy()
    return np.repeat(np.arange(len(lengths)), lengths)


def _repeats_next(batch: JaggedBatch, sessions: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """``(total_tokens,)``, whether what comes next is an item that the session has had."""
    targets, items = batch.require_targets().cpu().numpy(), batch.items.cpu().numpy()
    # One number for each pair of a session and an item.
    stride = 1 + max(int(part.max(initial=0)) for part in (targets, items))
    had, first = np.unique(sessions * stride + items, return_index=True)
    wanted = sessions * stride + targets
    place = np.searchsorted(had, wanted).clip(max=len(had) - 1)
    repeated = (had[place] == wanted) & (first[place] <= np.arange(len(wanted)))
    if batch.earlier is not None and batch.earlier_offsets is not None:
        before = batch.earlier.cpu().numpy()
        inside = before < stride
        repeated |= np.isin(wanted, (_owners(batch.earlier_offsets) * stride + before)[inside])
    found: npt.NDArray[np.bool_] = repeated
    return found


def draw_candidates(
    hidden: Tensor,
    item_table: Tensor,
    count: int,
    *,
    method: Method,
    rng: Draws,
    exclude: Tensor | None = None,
    seen: Seen | None = None,
    relations: RelationScores | None = None,
) -> Draw:
    """Draw items from the generator's distribution, a few positions at once.

    Args:
        hidden: ``(num_positions, hidden_dim)`` states of the generator; the logit of item ``i`` is
            ``hidden . item_table[i]``.
        item_table: ``(num_items + 1, hidden_dim)``; row 0 is no item.
        count: Candidates a position.
        method: ``multinomial`` draws independently, so that an item may come twice; ``gumbel``
            without replacement; ``top`` takes the most probable.
        rng: Where the draws come from.
        exclude: ``(num_positions,)`` item_idx never drawn at its position, such as the true item.
        seen: What each position's session has had: that has no probability, unless fewer items
            than ``count`` are left.
        relations: What is added to each position's logits.

    Returns:
        The draw; it has no gradient.

    Raises:
        MfganError: Fewer items than candidates where none may come twice, or none at all.
    """
    num_items = len(item_table) - 1
    check_candidates(count, num_items - (exclude is not None), method)
    # Whole blocks of items: what is added has no probability.
    items = F.pad(item_table.detach()[1:], (0, 0, 0, -num_items % _BLOCK))
    parts = [
        _draw(
            _padded_logits(hidden[rows], items, num_items, relations, rows),
            num_items,
            count,
            method,
            rng,
            rows.start,
            None if exclude is None else exclude[rows, None] - 1,
            seen,
        )
        for rows in even_chunks(len(hidden), logits_at_once(hidden.device) // num_items)
    ]
    if not parts:
        empty = hidden.new_empty(0, count)
        return Draw(empty.long(), empty)
    thresholds = [part.threshold for part in parts if part.threshold is not None]
    return Draw(
        torch.cat([part.items for part in parts]),
        torch.cat([part.log_probs for part in parts]),
        torch.cat(thresholds) if thresholds else None,
    )


def check_candidates(count: int, left: int, method: Method) -> None:
    """Complain where ``left`` items are too few to draw ``count`` of.

    Raises:
        MfganError: Fewer items than candidates where none may come twice, or none at all.
    """
    if left < (1 if method == "multinomial" else count):
        raise MfganError(
            f"candidates: {count} a position need more items than the {left} that may be drawn"
        )


def _padded_logits(
    hidden: Tensor, items: Tensor, num_items: int, relations: RelationScores | None, rows: slice
) -> Tensor:
    padded = hidden.detach() @ items.T
    if relations is not None:
        relations.add_to(padded[:, :num_items], rows)
    return padded


def _draw(
    padded: Tensor,
    num_items: int,
    count: int,
    method: Method,
    rng: Draws,
    first_row: int,
    exclude: Tensor | None,
    seen: Seen | None,
) -> Draw:
    logits = padded[:, :num_items]
    if seen is not None:
        _hide(logits, seen, first_row, count, exclude)
    left_out = None
    if exclude is not None:
        left_out = logits.gather(1, exclude)
        # Before the largest is looked for: the others may be nothing beside this one.
        logits.scatter_(1, exclude, -torch.inf)
    highest = logits.amax(1, keepdim=True)
    masses = padded.sub(highest).exp_()
    masses[:, num_items:] = 0
    total = highest + masses.sum(1, keepdim=True).log()
    if left_out is not None:
        total = total.logaddexp(left_out)
    threshold = None
    if method == "multinomial":
        places = _multinomial(masses, count, rng, first_row)
    elif method == "top":
        places = logits.topk(count, dim=1).indices
    else:
        places, threshold = _gumbel(logits - total, count, rng, first_row)
    return Draw(places + 1, logits.gather(1, places) - total, threshold)


def _hide(logits: Tensor, seen: Seen, first_row: int, count: int, exclude: Tensor | None) -> None:
    """Leave out what was had, in rows that have enough without it."""
    rows = slice(first_row, first_row + len(logits))
    kept = None if exclude is None else exclude[:, 0] + 1
    needed = count + (exclude is not None)
    scarce = logits.size(1) - seen.most < needed
    whole = logits.clone() if scarce else None
    seen.hide(logits, rows, kept=kept)
    if whole is not None:
        few = logits.isfinite().sum(1, keepdim=True) < needed
        logits.copy_(torch.where(few, whole, logits))


def _gumbel(log_probs: Tensor, count: int, rng: Draws, first_row: int) -> tuple[Tensor, Tensor]:
    """Draws without replacement, in order, and the largest perturbed value that is none."""
    noise = exponential(rng, first_row, len(log_probs), log_probs.size(1), log_probs)
    perturbed = log_probs.sub_(noise.log_())
    values, order = perturbed.topk(min(count + 1, log_probs.size(1)), dim=1)
    # Where all items are drawn, the threshold is below each of them: they were certain.
    return order[:, :count], F.pad(values, (0, 1), value=-torch.inf)[:, count]


def _multinomial(masses: Tensor, count: int, rng: Draws, first_row: int) -> Tensor:
    """Independent draws from rows of masses: a block by its sum, then an item within the block."""
    blocks = masses.view(len(masses), -1, _BLOCK)
    sums = blocks.sum(2).cumsum(1)
    draws = uniform(rng, first_row, len(masses), count, masses)
    points = _below(draws * sums[:, -1:], sums[:, -1:])
    block = torch.searchsorted(sums, points, right=True)
    block.clamp_(max=sums.size(1) - 1)  # of rows that are not numbers; the loss will show them
    points = points - F.pad(sums, (1, 0)).gather(1, block)
    within = blocks.gather(1, block.unsqueeze(2).expand(-1, -1, _BLOCK)).cumsum(2)
    points = _below(points.unsqueeze(2), within[..., -1:])
    places: Tensor = block * _BLOCK + (within <= points).sum(2)
    return places


def _below(points: Tensor, total: Tensor) -> Tensor:
    """Keep points under the total: the first item whose sum exceeds one is then a possible one."""
    return torch.minimum(points, torch.nextafter(total, torch.zeros_like(total)))
