"""Fits on held-out items the chance that each factor's judgement stands for."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mfgan.models.chance import ChanceCurve
from mfgan.training.judging import calibration_error

_LINES = 8
_BEND = 0.3  # how far a bend may be expected to go, in log-odds a standard deviation of ``y``
_RIDGE = 1e-6  # keeps the level and a common slope finite where the two kinds never mix
_STEPS, _TOLERANCE = 50, 1e-9
_FOLDS = 2


def fit_chance(logits: Tensor) -> ChanceCurve:
    """The chance of the real item along ``y``: the likeliest line with a few bends.

    A straight line (Platt, Probabilistic outputs for support vector machines, 1999) fits where the
    discriminator errs in scale alone. Here it may bend at quantiles of ``y``, but never falls: what
    looks more real is not the less likely to be so. Of bends a normal distribution around none is
    expected, so that few data, or such as say little, keep the line straight.

    Args:
        logits: ``(num_positions, 1 + num_candidates)`` of one factor, the real item's first; real
            items and candidates weigh the same in all.
    """
    real = torch.zeros_like(logits, dtype=torch.float64)
    real[:, 0] = 1.0
    share = torch.full_like(real, 0.5 / real[:, 1:].numel())
    share[:, 0] = 0.5 / len(real)
    y, real, share = logits.double().flatten(), real.flatten(), share.flatten()
    points = _points(y, share)
    if len(points) == 1:
        return ChanceCurve((float(points),), (0.0,))
    x = _along(y, points)
    spread = float((share @ (y - share @ y).square()).sqrt())
    rising = torch.ones(len(points) - 1, dtype=torch.bool)
    while True:
        level, slopes = _fit(x, real, 2 * len(logits) * share, rising, spread)
        if not (slopes < 0).any():
            break
        # It is level there, and the others are fitted again beside it.
        rising[slopes.argmin()] = False
    heights = level + (slopes * points.diff()).cumsum(0)
    return ChanceCurve(tuple(points.tolist()), (float(level), *heights.tolist()))


def held_out_error(logits: Tensor) -> float:
    """Expected calibration error of ``fit_chance`` on positions that it was not fitted to.

    Args:
        logits: As ``fit_chance`` has them; at least two positions.
    """
    folds = torch.arange(len(logits)) % _FOLDS
    said = torch.empty_like(logits)
    for fold in range(_FOLDS):
        said[folds == fold] = fit_chance(logits[folds != fold])(logits[folds == fold])
    return float(calibration_error(said))


def _points(y: Tensor, share: Tensor) -> Tensor:
    """``(at most 1 + lines,)``: the least ``y``, the quantiles between, and the greatest."""
    ordered, order = y.sort()
    wanted = torch.linspace(0, 1, _LINES + 1, dtype=y.dtype)
    places = torch.searchsorted(share[order].cumsum(0), wanted).clamp(max=len(y) - 1)
    distinct: Tensor = ordered[places].unique()  # type: ignore[no-untyped-call]
    return distinct


def _along(y: Tensor, points: Tensor) -> Tensor:
    """``(n, 1 + lines)``: 1, and how far ``y`` has come along each line."""
    along = y.unsqueeze(1).clamp(points[:-1], points[1:]) - points[:-1]
    return torch.cat([torch.ones_like(y).unsqueeze(1), along], 1)


def _fit(
    x: Tensor, real: Tensor, weights: Tensor, rising: Tensor, spread: float
) -> tuple[Tensor, Tensor]:
    """Level and slopes by Newton's method, the slopes that are not to rise being 0."""
    free = torch.cat([rising.new_ones(1), rising])
    bends = spread / _BEND * torch.eye(x.shape[1], dtype=x.dtype)[1:].diff(dim=0)
    prior = bends.mT @ bends + _RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    found = x.new_zeros(x.shape[1])

    def loss(candidate: Tensor) -> float:
        log_odds = x @ candidate
        misfit = weights @ (F.softplus(log_odds) - real * log_odds)
        return float(misfit + 0.5 * candidate @ prior @ candidate)

    value = loss(found)
    for _ in range(_STEPS):
        chance = (x @ found).sigmoid()
        gradient = x.mT @ (weights * (chance - real)) + prior @ found
        curvature = x.mT @ ((weights * chance * (1 - chance)).unsqueeze(1) * x) + prior
        step = torch.zeros_like(found)
        step[free] = torch.linalg.solve(curvature[free][:, free], gradient[free])
        while (reached := loss(found - step)) > value and step.abs().max() > _TOLERANCE:
            step = step / 2
        found, gain, value = found - step, value - reached, reached
        if gain < _TOLERANCE * len(x):
            break
    return found[0], found[1:]
