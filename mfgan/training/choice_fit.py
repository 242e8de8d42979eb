"""Fits on held-out items how much each factor counts in the ranking."""

from dataclasses import dataclass

import torch
from torch import Tensor

_RIDGE = 1e-2  # keeps the weights of factors that say the same thing finite
_SURE = 3.0  # standard errors; of eight factors with nothing to say, one in a hundred gets there
_STEPS, _TOLERANCE = 50, 1e-9


@dataclass(frozen=True)
class ChoiceFit:
    """A conditional logit model.

    Args:
        weights: ``(num_features,)`` float64.
        errors: ``(num_features,)`` float64 standard errors.
        log_likelihood: Per choice.
    """

    weights: Tensor
    errors: Tensor
    log_likelihood: float

    @property
    def is_sure_of_first(self) -> bool:
        """Whether the first feature says more than chance; else there is no weighing beside it."""
        return bool(self.weights[0] >= _SURE * self.errors[0])

    def relative(self, values: Tensor) -> Tensor:
        """``(num_features - 1,)``: those of the other features where the first one weighs 1."""
        return values[1:] / self.weights[0].clamp_min(1e-3)


def fit_choice(features: Tensor, chosen: Tensor) -> ChoiceFit:
    """Maximum likelihood of ``p(c) = softmax_c(features[c] . weights)`` by Newton's method.

    McFadden, Conditional logit analysis of qualitative choice behavior, 1974.

    Args:
        features: ``(num_choices, num_alternatives, num_features)``; an alternative with a feature
            of minus infinity is not there.
        chosen: ``(num_choices,)`` int64, the alternative taken.

    Returns:
        The fit; the likelihood is concave, so there is one.
    """
    there = features.isfinite().all(-1)
    x = features.double().masked_fill(~there.unsqueeze(-1), 0.0)
    taken = x.gather(1, chosen.view(-1, 1, 1).expand(-1, 1, x.shape[2])).squeeze(1)
    weights = x.new_zeros(x.shape[2])
    ridge = _RIDGE * torch.eye(x.shape[2], dtype=x.dtype)
    value = _log_likelihood(x, there, chosen, weights, ridge)
    for _ in range(_STEPS):
        chance = (x @ weights).masked_fill(~there, -torch.inf).softmax(1)
        mean = torch.einsum("nc,ncf->nf", chance, x)
        gradient = (taken - mean).sum(0) - ridge @ weights
        spread = torch.einsum("nc,ncf,ncg->fg", chance, x, x) - mean.mT @ mean + ridge
        step = torch.linalg.solve(spread, gradient)
        found = _log_likelihood(x, there, chosen, weights + step, ridge)
        while found < value and step.abs().max() > _TOLERANCE:
            step = step / 2
            found = _log_likelihood(x, there, chosen, weights + step, ridge)
        weights, gain, value = weights + step, found - value, found
        if gain < _TOLERANCE * len(x):
            break
    return ChoiceFit(weights, torch.linalg.inv(spread).diagonal().sqrt(), value / len(x))


def fit_sure_choice(features: Tensor, chosen: Tensor) -> ChoiceFit:
    """``fit_choice`` of the first feature and of those others that say more than chance does.

    Backward elimination: as long as the least sure weight is under three standard errors, or below
    zero, its feature is left out. Weights that are noise would count in every ranking. Beside a
    first feature that is not sure itself nothing can be weighed, and all others are left out.

    Args:
        features: As ``fit_choice`` has them.
        chosen: As ``fit_choice`` has it.

    Returns:
        The fit. What was left out weighs 0; its error is of the last fit that it was in.
    """
    kept = list(range(features.shape[2]))
    errors = features.new_zeros(len(kept), dtype=torch.float64)
    while True:
        fit = fit_choice(features[..., kept], chosen)
        errors[kept] = fit.errors
        sureness = fit.weights[1:] / fit.errors[1:]
        if not len(sureness) or sureness.min() >= _SURE:
            break
        kept.pop(1 + int(sureness.argmin()))
    if not fit.is_sure_of_first and len(kept) > 1:
        kept, fit = kept[:1], fit_choice(features[..., :1], chosen)
    weights = torch.zeros_like(errors)
    weights[kept] = fit.weights
    return ChoiceFit(weights, errors, fit.log_likelihood)


def _log_likelihood(
    x: Tensor, there: Tensor, chosen: Tensor, weights: Tensor, ridge: Tensor
) -> float:
    scores = (x @ weights).masked_fill(~there, -torch.inf)
    value = scores.gather(1, chosen.unsqueeze(1)).squeeze(1) - scores.logsumexp(1)
    return float(value.sum() - 0.5 * weights @ ridge @ weights)
