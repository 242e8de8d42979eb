from itertools import pairwise

import pytest
import torch

from mfgan.models.choice import (
    choose,
    expected_reward,
    regularizer,
    shannon_loss,
    sparsemax_loss,
)

OFFSETS = torch.tensor([0, 3, 3, 5])
EVENTS = torch.tensor([0, 0, 0, 2, 2])
CLICKS = torch.tensor([1, -1, -1])
UTILITIES = torch.tensor([0.4, 1.1, -0.3, 2.0, -5.0], dtype=torch.float64)


def options(choice):
    """Probabilities display by display, no click last."""
    return [
        torch.cat([choice.rows[a:b], choice.none[n : n + 1]])
        for n, (a, b) in enumerate(pairwise(OFFSETS))
    ]


@pytest.mark.parametrize("rule", ["softmax", "sparsemax"])
@pytest.mark.parametrize("scale", [1.0, 1e4, -1e4])
def test_probabilities_sum_to_one_without_overflow(rule, scale):
    for one in options(choose(UTILITIES * scale, OFFSETS, EVENTS, rule=rule)):
        assert bool((one >= 0).all())
        assert float(one.sum()) == pytest.approx(1, abs=1e-9)


def test_softmax_and_sparsemax_by_hand():
    first = options(choose(UTILITIES, OFFSETS, EVENTS))[0]
    torch.testing.assert_close(first, torch.tensor([0.4, 1.1, -0.3, 0.0]).double().softmax(0))
    # Support {1.1, 0.4, 0}: 1 + 3*0 > 1.5 is false, so {1.1, 0.4}: τ = (1.5 - 1) / 2 = 0.25.
    sparse = options(choose(UTILITIES, OFFSETS, EVENTS, rule="sparsemax"))
    torch.testing.assert_close(sparse[0], torch.tensor([0.15, 0.85, 0, 0]).double())
    assert sparse[1].tolist() == [1]
    torch.testing.assert_close(sparse[2], torch.tensor([1.0, 0, 0]).double())


@pytest.mark.parametrize("rule", ["softmax", "sparsemax"])
@pytest.mark.parametrize("eta", [0.5, 3.0])
def test_the_closed_form_is_the_best_policy(rule, eta):
    def gain(choice):
        return expected_reward(choice, UTILITIES, EVENTS) - regularizer(choice, EVENTS, rule) / eta

    best = gain(choose(UTILITIES, OFFSETS, EVENTS, rule=rule, eta=eta))
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        other = choose(
            UTILITIES + torch.randn(5, generator=generator, dtype=torch.float64), OFFSETS, EVENTS
        )
        assert bool((gain(other) <= best + 1e-12).all())


@pytest.mark.parametrize("rule", ["softmax", "sparsemax"])
def test_the_gradient_is_expected_minus_real(rule):
    leaf = UTILITIES.clone().requires_grad_()
    if rule == "softmax":
        loss = shannon_loss(leaf, OFFSETS, CLICKS, eta=2.0)
    else:
        loss = sparsemax_loss(leaf, OFFSETS, EVENTS, CLICKS, eta=2.0)
    loss.sum().backward()
    real = torch.tensor([0.0, 1, 0, 0, 0])
    wanted = 2 * (choose(UTILITIES, OFFSETS, EVENTS, rule=rule, eta=2.0).rows - real)
    torch.testing.assert_close(leaf.grad, wanted)
    assert bool((loss >= -1e-12).all())


@pytest.mark.parametrize("shift", [1e4, 1e6, 5e7])
def test_sparsemax_of_large_utilities_is_that_of_their_differences(shift):
    near = torch.tensor([0.3, 0.7, -3.0, 0.1, 0.6])
    offsets, events = torch.tensor([0, 3, 5]), torch.tensor([0, 0, 0, 1, 1])
    far = (near + shift).requires_grad_()
    exact, clicks = far.detach().double(), torch.tensor([0, 4])
    found = choose(far, offsets, events, rule="sparsemax")
    wanted = choose(exact, offsets, events, rule="sparsemax")
    torch.testing.assert_close(found.rows.double(), wanted.rows, rtol=0, atol=1e-6)
    assert found.none.tolist() == [0, 0]
    loss = sparsemax_loss(far, offsets, events, clicks)
    exact_loss = sparsemax_loss(exact, offsets, events, clicks)
    torch.testing.assert_close(loss.double(), exact_loss, rtol=1e-6, atol=1e-6)
    loss.sum().backward()
    real = torch.tensor([1.0, 0, 0, 0, 1])
    torch.testing.assert_close(far.grad, found.rows.detach() - real)


def test_sparsemax_loss_of_no_click_among_large_utilities():
    loss = sparsemax_loss(
        torch.tensor([1e6, 1e6]), torch.tensor([0, 2]), torch.tensor([0, 0]), torch.tensor([-1])
    )
    # φ = (½, ½): 10⁶ - ½ (¼ + ¼) - 0 + ½.
    assert float(loss[0]) == pytest.approx(1e6 + 0.25, rel=1e-7)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_sparsemax_of_no_number_is_none(wrong):
    choice = choose(
        torch.tensor([wrong, 1.0, 2.0, 0.5]),
        torch.tensor([0, 2, 4]),
        torch.tensor([0, 0, 1, 1]),
        rule="sparsemax",
    )
    assert bool(choice.rows[:2].isnan().all())
    assert choice.rows[2:].tolist() == [1, 0]


def test_sparsemax_loss_is_zero_where_the_click_is_certain():
    loss = sparsemax_loss(UTILITIES, OFFSETS, EVENTS, torch.tensor([1, -1, 3]))
    assert loss[1:].tolist() == pytest.approx([0, 0])
    assert float(loss[0]) == pytest.approx(0.5 * 0.15**2 * 2)
