"""The policy gradient: its loss against autograd, its estimators against exact gradients."""

import itertools
import math

import pytest
import torch

from mfgan.data.batch import JaggedBatch
from mfgan.models.relation_term import RelationTerm
from mfgan.training import chunks
from mfgan.training import policy_loss as module
from mfgan.training.candidates import Draw, draw_candidates
from mfgan.training.policy_loss import PolicyTerms, policy_loss
from mfgan.training.rewards import (
    independent_coefficients,
    reward_of,
    top_coefficients,
    without_replacement_coefficients,
)


def fixed(hidden):
    """The item table of a generator whose hidden states are the logits themselves."""
    return torch.nn.functional.pad(torch.eye(hidden.shape[1], dtype=hidden.dtype), (0, 0, 1, 0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("weights", list(itertools.product([0.0, 0.7], repeat=3)))
@pytest.mark.parametrize("at_once", [1, 1 << 20])
@pytest.mark.parametrize("few", [1, 2])
def test_loss_and_gradients_equal_autograd(monkeypatch, weights, at_once, few):
    monkeypatch.setattr(module, "logits_at_once", lambda device: at_once)
    monkeypatch.setattr(chunks, "_OF_A_LOSS_ON_CPU", at_once)
    monkeypatch.setattr(module, "_FEW", few)
    mle, anchor, entropy = weights
    made = [torch.randn(*shape, dtype=torch.float64, generator=seeded(i))
            for i, shape in enumerate([(5, 3), (8, 3), (5, 4), (8, 4), (5, 2)])]  # fmt: skip
    hidden, table, anchor_hidden, anchor_table, coefficients = made
    hidden.requires_grad_()
    table.requires_grad_()
    targets = torch.tensor([1, 7, 3, 3, 2])
    items = torch.tensor([[1, 1], [7, 2], [4, 5], [6, 6], [1, 2]])
    terms = PolicyTerms(
        targets, mle, items, coefficients, anchor_hidden, anchor_table, anchor, entropy
    )
    ours = policy_loss(hidden, table, terms)
    (2 * ours.loss).backward()
    grads = [hidden.grad.clone(), table.grad.clone()]
    hidden.grad = table.grad = None

    log_probs = (hidden @ table[1:].T).log_softmax(1)
    reference = (anchor_hidden @ anchor_table[1:].T).log_softmax(1)
    nll = -log_probs.gather(1, targets[:, None] - 1).mean()
    policy = -(coefficients * log_probs.gather(1, items - 1)).sum(1).mean()
    negative_entropy = (log_probs.exp() * log_probs).sum(1).mean()
    divergence = (log_probs.exp() * (log_probs - reference)).sum(1).mean()
    loss = mle * nll + policy + anchor * divergence + entropy * negative_entropy
    (2 * loss).backward()
    torch.testing.assert_close(ours.loss, loss)
    torch.testing.assert_close(ours.nll, nll)
    torch.testing.assert_close(ours.entropy, -negative_entropy)
    if anchor:
        torch.testing.assert_close(ours.divergence, divergence)
    for grad, expected in zip(grads, (hidden.grad, table.grad), strict=True):
        torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_relations_are_in_both_distributions_and_learn(monkeypatch, at_once):
    monkeypatch.setattr(module, "logits_at_once", lambda device: at_once)
    draws = seeded()
    batch = JaggedBatch.from_sequences([[3, 1, 5, 2], [4], [7, 7, 2]], max_len=9)
    counted = torch.rand(9, 9, generator=draws) * (torch.rand(9, 9, generator=draws) < 0.5)
    counted[0] = counted[:, 0] = 0
    terms_of = [related_term(counted, seeded(place)) for place in range(2)]
    ends = batch.last_tokens()
    made = [torch.randn(*shape, dtype=torch.float64, generator=draws)
            for shape in [(3, 4), (9, 4), (3, 4), (9, 4), (3, 2)]]  # fmt: skip
    hidden, table, anchor_hidden, anchor_table, coefficients = made
    items = torch.tensor([[1, 8], [5, 6], [3, 4]])
    terms = PolicyTerms(
        None,
        0.0,
        items,
        coefficients,
        anchor_hidden,
        anchor_table,
        0.7,
        relations=terms_of[0].at(batch, ends),
        anchor_relations=terms_of[1].at(batch, ends),
    )
    ours = policy_loss(hidden, table, terms)
    ours.loss.backward()
    found = terms_of[0].weight.grad.clone()
    terms_of[0].weight.grad = None

    every = torch.arange(1, 9).expand(3, -1)
    said, anchored = (term.at(batch, ends).parts(every).sum(-1).double() for term in terms_of)
    log_probs = (hidden @ table[1:].T + said).log_softmax(1)
    reference = (anchor_hidden @ anchor_table[1:].T + anchored).log_softmax(1)
    policy = -(coefficients * log_probs.gather(1, items - 1)).sum(1).mean()
    divergence = (log_probs.exp() * (log_probs - reference)).sum(1).mean()
    (policy + 0.7 * divergence).backward()
    torch.testing.assert_close(ours.divergence, divergence.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, terms_of[0].weight.grad, rtol=1e-4, atol=1e-5)
    assert found.abs().max() > 0.01


def related_term(dense, draws):
    term = RelationTerm(("transition",), len(dense) - 1, 9, scale=4)
    rows, columns = dense.nonzero(as_tuple=True)
    offsets = torch.searchsorted(rows, torch.arange(len(dense) + 1))
    term.take({"transition": (offsets, columns.int(), dense[rows, columns])})
    term.weight.data.normal_(0, 0.3, generator=draws)
    return term


def test_nothing_but_likelihood_needs_targets():
    made = [torch.randn(*shape, dtype=torch.float64, generator=seeded(i))
            for i, shape in enumerate([(5, 3), (8, 3), (5, 4), (8, 4), (5, 2)])]  # fmt: skip
    hidden, table, anchor_hidden, anchor_table, coefficients = made
    items = torch.tensor([[1, 1], [7, 2], [4, 5], [6, 6], [1, 2]])
    found = []
    for targets in (None, torch.tensor([1, 7, 3, 3, 2])):
        states = hidden.clone().requires_grad_()
        terms = PolicyTerms(
            targets, 0.0, items, coefficients, anchor_hidden, anchor_table, 0.7, 0.3
        )
        parts = policy_loss(states, table, terms)
        parts.loss.backward()
        found.append((parts, states.grad))
    (without, grad), (with_targets, expected) = found
    torch.testing.assert_close(grad, expected)
    torch.testing.assert_close(without.loss, with_targets.loss)
    assert float(without.nll) == 0 < float(with_targets.nll)
    with pytest.raises(ValueError, match="mle_weight must come with targets, got none"):
        policy_loss(hidden, table, PolicyTerms(None, 0.5, items, coefficients))


def test_an_anchor_weight_wants_an_anchor():
    terms = PolicyTerms(torch.tensor([1]), 1.0, torch.tensor([[1]]), torch.zeros(1, 1),
                        anchor_weight=1.0)  # fmt: skip
    with pytest.raises(ValueError, match="anchor_weight must come with an anchor"):
        policy_loss(torch.zeros(1, 2), torch.zeros(3, 2), terms)


@pytest.mark.parametrize(("anchor_weight", "entropy_weight"), [(0, 0), (0, 0.3), (0.5, 0.3)])
def test_products_in_bf16_where_there_is_no_anchor(anchor_weight, entropy_weight):
    made = [
        torch.randn(*shape, generator=seeded(i)) for i, shape in enumerate([(40, 16), (90, 16)])
    ]
    anchor = [x + 0.1 for x in made]
    items = torch.randint(1, 90, (40, 3), generator=seeded(2))
    coefficients = torch.rand(40, 3, generator=seeded(3))
    weights = anchor_weight, entropy_weight
    terms = PolicyTerms(items[:, 0], 0.4, items, coefficients, *anchor, *weights)

    def run(precision):
        leaves = [x.clone().requires_grad_() for x in made]
        loss = policy_loss(*leaves, terms, precision=precision).loss
        return [loss.detach(), *torch.autograd.grad(loss, leaves)]

    for rounded, exact in zip(run(torch.bfloat16), run(torch.float32), strict=True):
        assert torch.equal(rounded, exact) == (anchor_weight > 0)
        assert (rounded - exact).norm() <= 0.02 * exact.norm()


LOGITS = torch.tensor([1.0, 0.0, -1.0, 0.5, -0.3], dtype=torch.float64)
REWARDS = torch.tensor([0.9, 0.2, 0.8, 0.4, 0.1], dtype=torch.float64)


def exact_gradient():
    logits = LOGITS.clone().requires_grad_()
    (logits.softmax(0) * REWARDS).sum().backward()
    return logits.grad


def estimates(method, baseline, samples, draws=100_000):
    """Many estimates of the gradient with respect to the logits, ``(draws, 5)``."""
    hidden = LOGITS.expand(draws, -1)
    draw = draw_candidates(hidden, fixed(hidden), samples, method=method, rng=seeded(2))
    rewards = REWARDS[draw.items - 1]
    if method == "multinomial":
        coefficients = independent_coefficients(rewards, baseline)
    else:
        coefficients = without_replacement_coefficients(rewards, draw, baseline)
    onehot = torch.nn.functional.one_hot(draw.items - 1, 5).double()
    return (coefficients.unsqueeze(-1) * (onehot - LOGITS.softmax(0))).sum(1)


@pytest.mark.parametrize(
    ("method", "baseline", "samples"),
    [
        ("multinomial", "none", 1),
        ("multinomial", "none", 3),
        ("multinomial", "leave-one-out", 3),
        ("gumbel", "none", 3),
    ],
)
def test_estimators_are_unbiased(method, baseline, samples):
    found = estimates(method, baseline, samples)
    error = found.std(0) / math.sqrt(len(found))
    assert torch.all((found.mean(0) - exact_gradient()).abs() < 4.5 * error)


@pytest.mark.parametrize("method", ["multinomial", "gumbel"])
def test_the_baseline_lowers_the_variance(method):
    bare, lower = (
        estimates(method, baseline, 3).var(0).sum() for baseline in ("none", "leave-one-out")
    )
    assert lower < 0.6 * bare


def test_normalised_weights_cost_a_small_bias():
    bias = estimates("gumbel", "leave-one-out", 4).mean(0) - exact_gradient()
    assert bias.norm() < 0.02 * exact_gradient().norm()


def test_leave_one_out_is_the_mean_of_the_others():
    rewards = torch.tensor([[0.9, 0.2, 0.4]])
    expected = [(0.9 - 0.3) / 3, (0.2 - 0.65) / 3, (0.4 - 0.55) / 3]
    torch.testing.assert_close(
        independent_coefficients(rewards, "leave-one-out"), torch.tensor([expected])
    )
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        independent_coefficients(rewards[:, :1], "leave-one-out")


def test_top_candidates_give_the_exact_gradient_where_the_others_earn_their_mean():
    draw = draw_candidates(LOGITS.expand(1, -1), fixed(LOGITS[None]), 3, method="top", rng=seeded())
    assert draw.items.tolist() == [[1, 4, 2]]
    drawn = draw.items[0] - 1
    chance = LOGITS.softmax(0)[drawn]
    rewards = torch.full_like(REWARDS, float((chance * REWARDS[drawn]).sum() / chance.sum()))
    rewards[drawn] = REWARDS[drawn]
    logits = LOGITS.clone().requires_grad_()
    (logits.softmax(0) * rewards).sum().backward()
    coefficients = top_coefficients(REWARDS[draw.items - 1], draw)[0]
    found = torch.zeros(5, dtype=torch.float64).index_add(0, drawn, coefficients)
    torch.testing.assert_close(found, logits.grad)


def test_without_replacement_wants_a_gumbel_draw():
    draw = Draw(torch.ones(1, 2).long(), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="must come from gumbel"):
        without_replacement_coefficients(torch.zeros(1, 2), draw, "none")


def test_calibrated_rewards_want_fitted_weights():
    logits, fitted = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([2.0, -1.0])
    torch.testing.assert_close(
        reward_of(logits, "calibrated", sharpness=7.0, fitted=fitted), torch.tensor([4.0, -2.0])
    )
    with pytest.raises(ValueError, match="calibrated must come with fitted weights, got none"):
        reward_of(logits, "calibrated")


def test_rewards_are_the_combination_or_the_weighted_log_odds():
    logits = torch.tensor([[0.0, math.log(3.0)]])
    torch.testing.assert_close(reward_of(logits, "probability"), torch.tensor([0.625]))
    torch.testing.assert_close(reward_of(logits, "log-odds"), torch.tensor([math.log(3.0) / 2]))
    mixture = torch.tensor([0.0, math.log(3.0)])
    torch.testing.assert_close(
        reward_of(logits, "log-odds", mixture=mixture), torch.tensor([0.75 * math.log(3.0)])
    )
