"""From the discriminators' judgements to the coefficients of the policy gradient.

The gradient of the expected reward ``E[r(i)]``, ``i`` drawn from the generator, is estimated by
``sum_k c_k * grad log G(i_k)``. Every estimator here is a rule that gives ``c`` from the rewards of
the candidates that were drawn.
"""

from typing import Literal

import torch
from torch import Tensor

from mfgan.models.combination import factor_weights
from mfgan.training.candidates import Draw

Reward = Literal["probability", "log-odds", "calibrated"]
Baseline = Literal["leave-one-out", "none"]


def reward_of(
    logits: Tensor,
    kind: Reward,
    *,
    sharpness: float = 0.0,
    mixture: Tensor | None = None,
    fitted: Tensor | None = None,
) -> Tensor:
    """What the discriminators give for candidates.

    Args:
        logits: ``(..., num_factors)``.
        kind: ``probability`` is ``Q = sum_j w_j sigmoid(y_j)``; ``log-odds`` is ``sum_j w_j y_j``,
            which does not flatten where a discriminator is sure; ``calibrated`` is
            ``sum_j b_j y_j``, by which ``log G`` is corrected: with an anchor of weight 1 the
            corrected ranking is the optimum.
        sharpness: lambda of the weights ``w_j``.
        mixture: ``(num_factors,)`` learned weights instead, before their softmax.
        fitted: ``(num_factors,)``, the ``b_j``.

    Returns:
        ``(...)`` rewards.

    Raises:
        ValueError: ``calibrated`` without ``fitted``.
    """
    if kind == "calibrated":
        if fitted is None:
            raise ValueError("reward: calibrated must come with fitted weights, got none")
        return (fitted * logits).sum(-1)
    weights = factor_weights(logits, sharpness=sharpness, mixture=mixture)
    values = logits.sigmoid() if kind == "probability" else logits
    return (weights * values).sum(-1)


def independent_coefficients(rewards: Tensor, baseline: Baseline) -> Tensor:
    """REINFORCE for independent draws; the baseline is the mean reward of the other draws.

    Args:
        rewards: ``(num_positions, num_samples)``.
        baseline: ``none``, or ``leave-one-out`` where there are at least two samples.

    Returns:
        ``(num_positions, num_samples)``; unbiased either way. With the baseline each position's
        add up to 0.

    Raises:
        ValueError: A baseline over the other samples where there is only one.
    """
    samples = rewards.size(1)
    if baseline == "none":
        return rewards / samples
    if samples < 2:
        raise ValueError("baseline: leave-one-out must have at least 2 samples, got 1")
    return (rewards - rewards.mean(1, keepdim=True)) / (samples - 1)


def without_replacement_coefficients(rewards: Tensor, draw: Draw, baseline: Baseline) -> Tensor:
    """REINFORCE for draws by Gumbel top-k (Kool et al., "Buy 4 REINFORCE samples, get a baseline
    for free!", 2019).

    Each sample is weighted by ``p / q``, ``q`` being the chance that its perturbed log-probability
    exceeds the threshold. That alone is unbiased, and of large variance where many items are
    improbable. With the baseline the weights are also normalised, which costs a bias that vanishes
    with the number of samples and takes nearly all of that variance away.

    Args:
        rewards: ``(num_positions, num_samples)``.
        draw: The Gumbel draw that they are for.
        baseline: ``none``, or ``leave-one-out``: the weighted mean of the rewards.

    Returns:
        ``(num_positions, num_samples)``.

    Raises:
        ValueError: The draw has no threshold.
    """
    if draw.threshold is None:
        raise ValueError("draw: must come from gumbel, got one without a threshold")
    chance = draw.log_probs.exp()
    # q = 1 - exp(-exp(log p - kappa)): of a Gumbel variable located at log p to exceed kappa.
    weights = chance / -torch.expm1(-torch.exp(draw.log_probs - draw.threshold.unsqueeze(1)))
    if baseline == "none":
        return weights * rewards
    total = weights.sum(1, keepdim=True)
    mean = (weights * rewards).sum(1, keepdim=True) / total
    # The total as it would be with this sample's chance known: its own weight counts as 1 * p.
    return weights / (total - weights + chance) * (rewards - mean)


def top_coefficients(rewards: Tensor, draw: Draw, possible: Tensor | None = None) -> Tensor:
    """The exact gradient of the expected reward if all other items earned the candidates' mean.

    No sampling, hence no variance; biased by what the other items' rewards really are.

    Args:
        rewards: ``(num_positions, num_candidates)``.
        draw: The candidates, each at most once.
        possible: ``(num_positions, num_candidates)`` bool, those that may be chosen; all where
            None. The others have no part in the mean and coefficients of 0.

    Returns:
        ``(num_positions, num_candidates)``; each position's add up to 0.
    """
    chance = draw.log_probs.exp()
    if possible is not None:
        chance = chance.where(possible, 0.0)
    total = chance.sum(1, keepdim=True).clamp_min(torch.finfo(chance.dtype).tiny)
    mean = (chance * rewards).sum(1, keepdim=True) / total
    return chance * (rewards - mean)
