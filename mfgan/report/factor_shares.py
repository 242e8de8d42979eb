"""How much each factor counts, over many users: for what they took and for what is recommended."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mfgan.data.batching import history_batches
from mfgan.evaluation.scan import Excluded, scan_block
from mfgan.evaluation.scorers import GeneratorScorer
from mfgan.models.correction import weights_and_chances
from mfgan.models.frozen_judges import FrozenJudges

if TYPE_CHECKING:
    from mfgan.training.run import Run

_USERS = 500
_BATCH = 64
TOP = 10


@dataclass(frozen=True)
class FactorShares:
    """Means over users; every array is ``(2, num_factors)``: real next items, recommended ones.

    Args:
        names: The factors.
        num_users: How many users, drawn once.
        shares: ``w_j p_j / Q``.
        leads: How often the factor has the largest share.
        probabilities: ``p_j``, calibrated where the run is.
        combined: ``(2,)``, ``Q``.
        calibrated: Whether ``p_j`` are.
    """

    names: tuple[str, ...]
    num_users: int
    shares: npt.NDArray[np.float64]
    leads: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    combined: npt.NDArray[np.float64]
    calibrated: bool


@torch.inference_mode()
def factor_shares(
    run: "Run", *, stage: str | None = None, split: str = "test", seed: int = 0
) -> FactorShares:
    """Judge the held-out item and the first recommendations of up to 500 users.

    Args:
        run: A run with discriminators.
        stage: Whose weights; where None of the last stage, calibrated where the run is.
        split: Whose targets.
        seed: Of the draw of users.

    Raises:
        MfganError: No stage has trained discriminators.
    """
    dataset = run.dataset
    generator, discriminators = run.generator(stage), run.discriminators(stage)
    correction = None if stage is not None else run.correction()
    everyone = dataset.target_users(split)  # type: ignore[arg-type]
    everyone = everyone[dataset.history_ends(everyone, split) > dataset.offsets[everyone]]  # type: ignore[arg-type]
    rng = np.random.default_rng([seed, len("factor shares")])
    users = np.sort(rng.choice(everyone, min(_USERS, len(everyone)), replace=False))
    targets = dict(zip(dataset.target_users(split), dataset.targets(split), strict=True))  # type: ignore[arg-type]
    max_len = generator.config.max_len
    batches = history_batches(dataset, users, split, max_len=max_len, batch_size=_BATCH)  # type: ignore[arg-type]
    judges, parts = FrozenJudges(discriminators), []
    for batch in batches:
        mine = batch.users.numpy()
        starts = dataset.offsets[mine]
        ends = dataset.history_ends(mine, split)  # type: ignore[arg-type]
        excluded = Excluded(dataset.items, starts, ends)
        goals = np.array([targets[user] for user in mine], np.int64)
        scan = scan_block(GeneratorScorer(generator)(batch).float(), goals, excluded, TOP)
        candidates = np.concatenate([goals[:, None], np.maximum(scan.top, 1)], axis=1)
        logits = judges(batch, batch.last_tokens(), torch.from_numpy(candidates))
        judged = weights_and_chances(logits, discriminators, correction)
        parts.append(_figures(*judged, scan.top > 0))
    total = np.concatenate(parts).sum(axis=0)
    counts = total[:, -1:]
    count = len(discriminators.factor_names)
    means = total / np.maximum(counts, 1)
    return FactorShares(
        names=discriminators.factor_names,
        num_users=len(users),
        shares=means[:, :count],
        leads=means[:, count : 2 * count],
        probabilities=means[:, 2 * count : 3 * count],
        combined=means[:, 3 * count],
        calibrated=correction is not None,
    )


def _figures(
    weights: Tensor, probabilities: Tensor, there: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """``(num_users, 2, 3 * num_factors + 2)`` sums: shares, leads, probabilities, Q, how many."""
    combined = (weights * probabilities).sum(-1, keepdim=True)
    shares = weights * probabilities / combined.clamp_min(1e-30)
    leads = torch.nn.functional.one_hot(shares.argmax(-1), shares.shape[-1])
    ones = torch.ones_like(combined)
    figures = torch.cat([shares, leads, probabilities, combined, ones], dim=-1).double()
    is_there = torch.from_numpy(there)[..., None]
    recommended = (figures[:, 1:] * is_there).sum(dim=1)
    return torch.stack([figures[:, 0], recommended], dim=1).numpy()
