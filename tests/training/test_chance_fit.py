"""Calibrated chances against planted truths and the conditions of an optimum."""

import numpy as np
import pytest
import torch

from mfgan.training import chance_fit
from mfgan.training.chance_fit import fit_chance, held_out_error
from mfgan.training.judging import calibration_error


def sure_logits(num_positions=3000, num_candidates=4, seed=1):
    """Logits that are the log-odds of the real item, both kinds as likely."""
    rng = np.random.default_rng(seed)
    # Of a real item they are N(s/2, s), of a candidate N(-s/2, s): that is their log ratio.
    spread = 1.5
    real = rng.normal(spread / 2, spread**0.5, (num_positions, 1))
    drawn = rng.normal(-spread / 2, spread**0.5, (num_positions, num_candidates))
    return torch.from_numpy(np.hstack([real, drawn]))


def distorted(slope, intercept, **sizes):
    """Logits ``y`` whose log-odds are ``slope y + intercept``."""
    return (sure_logits(**sizes) - intercept) / slope


def bent(log_odds):
    """Too sure of itself where it says no, and not sure enough where it says yes."""
    return torch.where(log_odds < 0, 4 * log_odds, 0.4 * log_odds)


def test_chances_undo_a_distortion():
    y = distorted(0.3, -1.2)
    middle = y[(y > y.quantile(0.05)) & (y < y.quantile(0.95))]
    assert (fit_chance(y)(middle) - (0.3 * middle - 1.2)).abs().max() < 0.25


def test_chances_undo_a_bend_that_no_line_fits(monkeypatch):
    log_odds = sure_logits(num_positions=20000)
    y = bent(log_odds)
    middle = log_odds.abs() < 1.5
    assert (fit_chance(y)(y[middle]) - log_odds[middle]).abs().max() < 0.4
    error = held_out_error(y)
    monkeypatch.setattr(chance_fit, "_LINES", 1)
    assert error < held_out_error(y) / 2 < float(calibration_error(y)) / 2


def test_chances_are_right_on_average():
    y = distorted(2.0, 0.4, num_positions=200)
    chance = fit_chance(y)(y).sigmoid()
    share = torch.full_like(y, 0.5 / y[:, 1:].numel())
    share[:, 0] = 0.5 / len(y)
    assert float((share * chance).sum()) == pytest.approx(0.5, abs=1e-6)


def test_few_positions_bend_it_less_than_many():
    def bends(num_positions):
        curve = fit_chance(distorted(1.0, 0.0, num_positions=num_positions))
        slopes = np.diff(curve.log_odds) / np.diff(curve.logits)
        return float(np.abs(np.diff(slopes)).max())

    assert bends(20) < 0.5
    assert bends(20000) < 0.5


def test_what_says_the_opposite_says_nothing():
    found = fit_chance(-sure_logits())
    assert found.log_odds == pytest.approx([0.0] * len(found.log_odds), abs=1e-6)


def test_logits_that_are_all_alike_are_the_toss_of_a_coin():
    found = fit_chance(torch.full((5, 3), 0.7))
    assert found(torch.tensor([0.7, 3.0])).tolist() == [0.0, 0.0]


def test_two_kinds_that_never_mix_have_finite_chances():
    y = torch.tensor([[2.0, -2.0]]).repeat(50, 1)
    found = fit_chance(y)(y)
    assert found.isfinite().all()
    assert (found[:, 0] > 3).all()
    assert (found[:, 1] < -3).all()


def test_held_out_error_is_small_where_the_raw_one_is_not():
    y = distorted(0.3, -1.2)
    assert float(calibration_error(y)) > 0.15
    assert held_out_error(y) < 0.02


def test_held_out_error_is_of_positions_that_were_not_fitted():
    # From one fold to the other the real item's logit moves: what fits one is wrong of the other.
    y = torch.tensor([[3.0, -3.0], [-3.0, -9.0]]).repeat(50, 1)
    assert held_out_error(y) > 0.2
