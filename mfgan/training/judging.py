"""What discriminators learn from trials, and how well they judge them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfgan.models.combination import combine
from mfgan.models.discriminator import Discriminators

if TYPE_CHECKING:
    from mfgan.config import PretrainDiscriminatorConfig
    from mfgan.training.trials import Trials

SUM_AUC = "AUC (sum)"  # a figure of ``measure``
_CALIBRATION_BINS = 15


class Temper(nn.Module):
    """How much surer of itself the generator should be, beside each factor and beside their sum.

    What a generator is too sure of is no factor's to say: a judge that has to say it learns the
    opposite of what it would, where its factor says the same as the generator. So while judges
    learn, ``t log G`` is added to what they say, and ``t`` is learned with them.

    Args:
        num_factors: How many judge.
    """

    def __init__(self, num_factors: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.zeros(num_factors))
        self.sum = nn.Parameter(torch.zeros(()))


def judging_loss(
    discriminators: Discriminators,
    logits: Tensor,
    settings: "PretrainDiscriminatorConfig",
    *,
    temper: Temper | None = None,
    proposed: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the discriminators lose on trials, summed over factors.

    Args:
        discriminators: Whose logits these are.
        logits: ``(num_positions, 1 + num_candidates, num_factors)``, the real item's first.
        settings: Weights of the terms.
        temper: Learned with them, where ``settings.tempered``.
        proposed: ``(num_positions, 1 + num_candidates)``, what it tempers: the proposer's logits.

    Returns:
        The loss, and detached figures of each factor: ``loss/<factor>``, ``accuracy/<factor>``
        (real and drawn items weigh the same) and ``AUC/<factor>`` (of pairs at one position).
    """
    judged, together = tempered(logits, temper, proposed)
    real, drawn = judged[:, :1], judged[:, 1:]
    real_loss = F.softplus(-real) + settings.label_smoothing * real
    drawn_loss = F.softplus(drawn)
    if settings.balanced:
        losses = 0.5 * (real_loss.mean((0, 1)) + drawn_loss.mean((0, 1)))
    else:
        losses = torch.cat([real_loss, drawn_loss], 1).mean((0, 1))
    loss = (
        settings.own_weight * losses.sum() + settings.head_l2 * discriminators.head_penalty().sum()
    )
    if settings.ranking_weight:
        ranking = (judged.logsumexp(1) - judged[:, 0]).mean(0)
        loss = loss + settings.ranking_weight * ranking.sum()
    if settings.joint_weight:
        # Candidates come from the generator, so that log G cancels out of the softmax of
        # log G + sum_j y_j over them: what is left is the sum.
        joint = (together.logsumexp(1) - together[:, 0]).mean()
        loss = loss + settings.joint_weight * joint
    if discriminators.mixture is not None:
        loss = loss + _mixture_loss(discriminators, logits)
    with torch.no_grad():
        accuracy = _accuracy(logits)
        figures = {"loss": losses.detach(), "accuracy": accuracy, "AUC": pair_auc(logits).mean(0)}
    return loss, by_factor(figures, discriminators.factor_names)


def tempered(
    logits: Tensor, temper: Temper | None, proposed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What factors, and their sum, say beside a tempered generator.

    Args:
        logits: ``(num_positions, n, num_factors)``.
        temper: None leaves the generator as it is.
        proposed: ``(num_positions, n)``, the generator's logits of the same items.

    Returns:
        ``(num_positions, n, num_factors)`` and ``(num_positions, n)``.
    """
    together = logits.sum(-1)
    if temper is None or proposed is None:
        return logits, together
    # A position's mean is nobody's to tell: its level would be learned as a bias.
    sure = proposed - proposed.mean(1, keepdim=True)
    return logits + sure.unsqueeze(-1) * temper.factors, together + sure * temper.sum


def _accuracy(logits: Tensor) -> Tensor:
    """``(num_factors,)``; real and drawn items weigh the same. Logits are as in ``pair_auc``."""
    real, drawn = logits[:, :1], logits[:, 1:]
    return 0.5 * ((real > 0).float().mean((0, 1)) + (drawn < 0).float().mean((0, 1)))


def pair_auc(logits: Tensor) -> Tensor:
    """Share of a position's drawn items that the real one outscores, a tie counting half.

    Args:
        logits: ``(num_positions, 1 + num_candidates, num_factors)``, the real item's first.

    Returns:
        ``(num_positions, num_factors)``.
    """
    gaps = logits[:, :1] - logits[:, 1:]
    return (gaps.sign().add(1).mul(0.5)).mean(1)


def by_factor(figures: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """``{"loss": (num_factors,)}`` as ``{"loss/<factor>": ()}`` for every figure and factor."""
    return {
        f"{figure}/{name}": value
        for figure, values in figures.items()
        for name, value in zip(names, values.unbind(), strict=True)
    }


def measure(
    discriminators: Discriminators, trials: "Iterator[Trials]", *, temper: Temper | None = None
) -> dict[str, float]:
    """How well each factor tells real items from drawn ones, and how far its word can be taken.

    Args:
        discriminators: Who judges; without dropout.
        trials: What about.
        temper: What was learned beside them; pairs are then told beside a tempered generator.

    Returns:
        For each factor ``AUC/<factor>`` of pairs, ``accuracy/<factor>`` and
        ``calibration/<factor>``: the expected calibration error of ``sigmoid(y)`` in 15 bins, real
        and drawn items weighing the same in the last two. ``AUC`` is of their combination,
        ``AUC (sum)`` of the sum of their logits.
    """
    with torch.no_grad():
        found = [(discriminators(t.batch, t.positions, t.items), t.logits) for t in trials]
        logits = torch.cat([judged for judged, _ in found])
        combined = discriminators.combine(logits).unsqueeze(-1)
        judged, together = tempered(logits, temper, torch.cat([given for _, given in found]))
        accuracy = _accuracy(logits)
        errors = torch.stack([calibration_error(y) for y in logits.unbind(-1)])
    figures = {"AUC": pair_auc(judged).mean(0), "accuracy": accuracy, "calibration": errors}
    named = by_factor(figures, discriminators.factor_names)
    values = {name: float(value) for name, value in named.items()}
    of_sum = float(pair_auc(together.unsqueeze(-1)).mean())
    return {"AUC": float(pair_auc(combined).mean()), SUM_AUC: of_sum, **values}


def calibration_error(logits: Tensor) -> Tensor:
    """The expected calibration error of ``sigmoid(y)`` as the chance that an item is real.

    Args:
        logits: ``(num_positions, 1 + num_candidates)`` of one factor, the real item's first. Real
            and drawn items weigh the same in all, so that a half means "cannot tell".

    Returns:
        A scalar: the mean distance between what was said and what was so, over equal bins.
    """
    said = logits.sigmoid()
    weights = torch.full_like(said, 0.5 / said[:, 1:].numel())
    weights[:, 0] = 0.5 / len(said)
    bins = (said * _CALIBRATION_BINS).long().clamp(max=_CALIBRATION_BINS - 1).flatten()

    def per_bin(values: Tensor) -> Tensor:
        return values.new_zeros(_CALIBRATION_BINS).index_add(0, bins, values.flatten())

    so = torch.zeros_like(weights)
    so[:, 0] = weights[:, 0]
    return (per_bin(weights * said) - per_bin(so)).abs().sum()


def _mixture_loss(discriminators: Discriminators, logits: Tensor) -> Tensor:
    """Likelihood of the learned combination; the judgements themselves learn nothing from it."""
    judged = combine(logits.detach(), mixture=discriminators.mixture).clamp(1e-6, 1 - 1e-6)
    return -0.5 * (judged[:, :1].log().mean() + (1 - judged[:, 1:]).log().mean())
