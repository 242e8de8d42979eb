"""Validation items as choices among the generator's best: what weights of factors are fitted to."""

import numpy as np
import torch
from torch import Tensor

from mfgan.config.stages import UNVALIDATED
from mfgan.data.batching import history_batches
from mfgan.data.dataset import PreparedDataset
from mfgan.errors import MfganError
from mfgan.evaluation.scan import Excluded
from mfgan.models.correction import Judges, best_unseen
from mfgan.models.generator import Generator

_BATCH = 256
_USERS_AT_ONCE = 1 << 14


def choosers(dataset: PreparedDataset, limit: int, rng: np.random.Generator) -> np.ndarray:
    """The users whose validation items are looked at: those to whom these are new.

    An item that its user has had is never recommended, and is no choice among those that are.

    Args:
        dataset: Theirs.
        limit: At most so many, drawn; 0 takes all.
        rng: Draws them.

    Returns:
        ``(n,)`` user_idx, ascending.

    Raises:
        MfganError: Fewer than two users have a new validation target with a history.
    """
    users = np.flatnonzero(dataset.validation > 0)
    users = users[new_to(dataset, users)]
    if len(users) < 2:
        raise MfganError(
            f"{dataset.path}: at least 2 users must have a validation target with a history that "
            f"lacks it, found {len(users)}; {UNVALIDATED}"
        )
    if 0 < limit < len(users):
        users = np.sort(rng.choice(users, limit, replace=False))
    return users


def new_to(dataset: PreparedDataset, users: np.ndarray) -> np.ndarray:
    """``(n,)`` bool, whether users have not had their validation target before.

    Args:
        dataset: Theirs.
        users: ``(n,)`` user_idx with a validation target.
    """
    starts = np.asarray(dataset.offsets, np.int64)[users]
    ends = starts + dataset.validation[users]
    new = np.ones(len(users), np.bool_)
    for first in range(0, len(users), _USERS_AT_ONCE):
        part = slice(first, first + _USERS_AT_ONCE)
        history = Excluded(dataset.items, starts[part], ends[part])
        new[part] = ~history.holds(np.asarray(dataset.items[ends[part]], np.int64))
    return new


@torch.inference_mode()
def choices(
    generator: Generator,
    judges: Judges,
    dataset: PreparedDataset,
    users: np.ndarray,
    top_k: int,
) -> tuple[Tensor, Tensor]:
    """The validation items among the generator's best unseen ones, and what is said of all these.

    Args:
        generator: Who ranks.
        judges: What is said of them, as `Discriminators` say it.
        dataset: Both models'.
        users: ``(n,)`` user_idx with a validation target.
        top_k: Alternatives a user.

    Returns:
        ``(num_choices, top_k, 1 + num_factors)`` the generator's logit and every ``y_j``, and
        ``(num_choices,)`` int64 the alternative that was real. Users whose real item is not among
        theirs are left out.

    Raises:
        MfganError: All are.
    """
    features, chosen, first = [], [], 0
    device, max_len = generator.item_embedding.device, generator.config.max_len
    targets = torch.from_numpy(dataset.items[dataset.offsets[users] + dataset.validation[users]])
    for packed in history_batches(dataset, users, "validation", max_len=max_len, batch_size=_BATCH):
        batch = packed.to(device)
        mine = slice(first, first + batch.num_sessions)
        first += batch.num_sessions
        scores = generator.scores_after(batch)
        best, items = best_unseen(scores, batch, top_k)
        # What was had fills the places where too few are unseen, and is no alternative.
        real = (items == targets[mine].to(device).unsqueeze(1)) & best.isfinite()
        logits = judges(batch, batch.last_tokens(), items)
        found = real.any(1)
        features.append(torch.cat([best.unsqueeze(-1), logits], -1)[found].float().cpu())
        chosen.append(real[found].long().argmax(1).cpu())
    if not sum(len(part) for part in chosen):
        raise MfganError(
            f"calibrate: some validation item must be among the generator's best {top_k}, found "
            "none; train it longer or raise calibrate.top_k"
        )
    return torch.cat(features), torch.cat(chosen)
