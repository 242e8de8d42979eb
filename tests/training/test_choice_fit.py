"""Fits of choices against planted truths and the conditions of an optimum."""

import math

import pytest
import torch

from mfgan.training.choice_fit import fit_choice, fit_sure_choice


def planted(weights, num_choices=4000, num_alternatives=7, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(num_choices, num_alternatives, len(weights), generator=rng)
    x[..., 1] += 0.7 * x[..., 0]  # features go together, as factors do
    chance = (x @ torch.tensor(weights)).softmax(1)
    return x, torch.multinomial(chance, 1, generator=rng).squeeze(1)


def test_the_weights_behind_choices_are_found():
    truth = [1.0, -0.5, 0.0]
    fit = fit_choice(*planted(truth))
    away = (fit.weights - torch.tensor(truth)).abs()
    assert (away < 4 * fit.errors).all()
    assert (fit.errors < 0.04).all()


def test_what_may_be_chance_or_counts_against_its_item_is_left_out():
    x, chosen = planted([1.0, -0.5, 0.0, 0.4, 0.02])
    fit = fit_sure_choice(x, chosen)
    assert fit.weights[[1, 2, 4]].tolist() == [0.0] * 3
    alone = fit_choice(x[..., [0, 3]], chosen)
    assert torch.allclose(fit.weights[[0, 3]], alone.weights)
    assert torch.allclose(fit.errors[[0, 3]], alone.errors)
    assert (fit.errors > 0).all()
    assert fit.log_likelihood == alone.log_likelihood


def test_nothing_is_weighed_beside_a_first_feature_that_says_nothing():
    x, chosen = planted([-0.7, 1.0])  # the second holds 0.7 of the first: in all that one says none
    fit = fit_sure_choice(x, chosen)
    alone = fit_choice(x[..., :1], chosen)
    assert fit.weights.tolist() == [float(alone.weights), 0.0]
    assert fit.relative(fit.weights).tolist() == [0.0]


def test_errors_are_those_of_repeated_draws():
    fits = [fit_choice(*planted([1.0, -0.5], num_choices=300, seed=seed)) for seed in range(60)]
    spread = torch.stack([fit.weights for fit in fits]).std(0)
    said = torch.stack([fit.errors for fit in fits]).mean(0)
    assert torch.allclose(spread, said, rtol=0.3)


def test_alternatives_that_are_not_there_change_nothing():
    x, chosen = planted([1.0, -0.5], num_choices=50)
    fit = fit_choice(x, chosen)
    absent = torch.randn(50, 2, 2)
    absent[..., 0] = -torch.inf
    wider = fit_choice(torch.cat([x, absent], 1), chosen)
    assert torch.allclose(fit.weights, wider.weights)
    assert wider.log_likelihood == pytest.approx(fit.log_likelihood)


def test_one_feature_has_the_likelihood_worked_out_by_hand():
    # Alternatives 1 and 0; the first is taken three times in four, so the weight is log 3.
    x = torch.tensor([[[1.0], [0.0]]] * 4)
    fit = fit_choice(x, torch.tensor([0, 0, 0, 1]))
    assert float(fit.weights[0]) == pytest.approx(math.log(3), rel=0.02)
    expected = (3 * math.log(3 / 4) + math.log(1 / 4)) / 4
    assert fit.log_likelihood == pytest.approx(expected, rel=0.01)


def test_features_that_say_the_same_share_a_finite_weight():
    x, chosen = planted([1.0, -0.5])
    fit = fit_choice(torch.cat([x, x[..., :1]], -1), chosen)
    assert fit.weights.isfinite().all()
    assert float(fit.weights[0]) == pytest.approx(float(fit.weights[2]), rel=1e-3)
