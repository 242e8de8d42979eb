"""Real next items against candidates of the generator: what is judged."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mfgan.data.batch import JaggedBatch
from mfgan.data.batching import history_batches
from mfgan.models.generator import Generator
from mfgan.models.seen import seen_by
from mfgan.training.candidates import choose_positions, draw_candidates
from mfgan.training.draws import Draws, next_draws

if TYPE_CHECKING:
    from mfgan.config import SampleConfig
    from mfgan.data.dataset import PreparedDataset


@dataclass(frozen=True)
class Trials:
    """Real next items and candidates of the generator for the same places.

    Args:
        batch: The sessions.
        positions: ``(num_positions,)`` int64 token index of the history's end.
        items: ``(num_positions, 1 + num_candidates)`` int64 item_idx, the real one first.
        log_probs: ``(num_positions, num_candidates)``, the generator's of what was drawn.
        logits: ``(num_positions, 1 + num_candidates)``, the generator's of all items here, without
            a gradient.
    """

    batch: JaggedBatch
    positions: Tensor
    items: Tensor
    log_probs: Tensor
    logits: Tensor


def draw_trials(
    generator: Generator,
    batch: JaggedBatch,
    settings: "SampleConfig",
    *,
    numpy_rng: np.random.Generator,
    rng: Draws,
) -> Trials:
    """Draw candidates beside the real next items of some training positions.

    Args:
        generator: Who proposes; without dropout, and without a gradient.
        batch: Training sessions with targets.
        settings: How many candidates, which, and where.
        numpy_rng: Draws the positions.
        rng: Draws the candidates.

    Returns:
        One real item and ``num_candidates`` others for every position.

    Raises:
        MfganError: The catalogue has too few items.
    """
    if batch.targets is None:
        raise ValueError("draw_trials: the batch must have targets, got none")
    positions = choose_positions(batch, settings.positions, numpy_rng)
    return trials_at(generator, batch, positions, batch.targets[positions], settings, rng)


def trials_at(
    generator: Generator,
    batch: JaggedBatch,
    positions: Tensor,
    real: Tensor,
    settings: "SampleConfig",
    rng: Draws,
) -> Trials:
    """Draw candidates beside the real next items of given positions.

    Args:
        generator: Who proposes; without dropout, and without a gradient.
        batch: The sessions.
        positions: ``(num_positions,)`` int64 token index.
        real: ``(num_positions,)`` int64, the real next item of each.
        settings: How many candidates, and which.
        rng: Draws the candidates.

    Returns:
        One real item and ``num_candidates`` others for every position.

    Raises:
        MfganError: The catalogue has too few items.
    """
    with torch.no_grad():
        hidden = generator(batch)[positions]
    relations = generator.relation_scores(batch, positions)
    draw = draw_candidates(
        hidden,
        generator.item_table,
        settings.num_candidates,
        method=settings.method,
        rng=rng,
        exclude=real if settings.exclude_target else None,
        seen=seen_by(generator, batch, positions),
        relations=relations,
    )
    items = torch.cat([real.unsqueeze(1), draw.items], 1)
    rows = F.embedding(items, generator.item_table.detach())
    logits = torch.einsum("pd,pcd->pc", hidden, rows)
    if relations is not None:
        logits = logits + relations.parts(items).sum(-1).detach()
    return Trials(batch, positions, items, draw.log_probs, logits)


def heldout_trials(
    generator: Generator,
    dataset: "PreparedDataset",
    settings: "SampleConfig",
    *,
    users: np.ndarray,
    batch_size: int,
    rng: Draws,
) -> Iterator[Trials]:
    """Trials on validation items, which neither model has learned from.

    Args:
        generator: Who proposes.
        dataset: Where histories and targets come from.
        settings: How many candidates, and which.
        users: ``(n,)`` user_idx with a validation target.
        batch_size: Users at once.
        rng: Draws the candidates of the first batch; those of the others follow.

    Yields:
        One position a user: the end of the history before the validation item.
    """
    places = dataset.offsets[users] + dataset.validation[users]
    targets = torch.from_numpy(np.asarray(dataset.items[places], np.int64))
    device = generator.item_embedding.device
    done = 0
    max_len = generator.config.max_len
    batches = history_batches(dataset, users, "validation", max_len=max_len, batch_size=batch_size)
    for packed in batches:
        batch = packed.to(device)
        real = targets[done : done + batch.num_sessions].to(device)
        done += batch.num_sessions
        yield trials_at(generator, batch, batch.last_tokens(), real, settings, rng)
        rng = next_draws(rng)
