"""The optimizer against torch's own, its schedule, averaging, rows and saved state."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mfgan.config import OptimizerConfig
from mfgan.training.optimizer import Optimizer, learning_rate_at


def make_parameters():
    draws = torch.Generator().manual_seed(0)
    return {
        "table": nn.Parameter(torch.randn(9, 4, generator=draws)),
        "bias": nn.Parameter(torch.randn(4, generator=draws)),
    }


def loss_of(parameters, rows, *, sparse=False):
    looked_up = F.embedding(torch.tensor(rows), parameters["table"], sparse=sparse)
    return ((looked_up + parameters["bias"]) ** 2).sum() + looked_up.sum()


def run(optimizer, rows_by_step, *, sparse=False):
    for rows in rows_by_step:
        optimizer.zero_grad()
        loss_of(optimizer.parameters, rows, sparse=sparse).backward()
        optimizer.step()


STEPS = [[0, 1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1, 0], [*range(9), 3, 3]]


@pytest.mark.parametrize("kind", ["adam", "adamw"])
@pytest.mark.parametrize("sparse", [False, True])
def test_equals_torch(kind, sparse):
    config = OptimizerConfig(
        kind=kind, learning_rate=0.1, weight_decay=0.3, clip_norm=2.0, beta2=0.9
    )
    ours = Optimizer(make_parameters(), config, total_steps=9)
    run(ours, STEPS, sparse=sparse)
    theirs = make_parameters()
    groups = [
        {"params": [theirs["table"]], "weight_decay": 0.3},
        {"params": [theirs["bias"]], "weight_decay": 0.0},
    ]
    torch_kind = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
    plain = torch_kind(groups, lr=0.1, betas=(0.9, 0.9))
    for rows in STEPS:
        plain.zero_grad()
        loss_of(theirs, rows).backward()
        nn.utils.clip_grad_norm_(list(theirs.values()), 2.0)
        plain.step()
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours.parameters[name], parameter, atol=1e-5, rtol=1e-5)


def test_rows_that_are_not_read_rest():
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.5)
    optimizer = Optimizer(make_parameters(), config, total_steps=9)
    before = optimizer.parameters["table"].detach().clone()
    run(optimizer, [[2, 5], [5]], sparse=True)
    changed = (optimizer.parameters["table"] != before).any(1)
    assert changed.nonzero().flatten().tolist() == [2, 5]
    moments = optimizer.state_tensors()["first.table"]
    assert moments.abs().sum(1).nonzero().flatten().tolist() == [2, 5]


def test_step_returns_the_norm_before_clipping():
    config = OptimizerConfig(clip_norm=1e-3)
    optimizer = Optimizer(make_parameters(), config, total_steps=9)
    loss_of(optimizer.parameters, [1]).backward()
    gradients = [p.grad.clone() for p in optimizer.parameters.values()]
    expected = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    assert optimizer.step().item() == pytest.approx(expected, rel=1e-5)


def test_schedule():
    config = OptimizerConfig(learning_rate=0.8, warmup_steps=4, decay="cosine", final_fraction=0.25)
    rates = [learning_rate_at(config, step, 12) for step in (0, 1, 3, 4, 8, 12, 99)]
    assert rates == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.5, 0.2, 0.2])
    constant = OptimizerConfig(learning_rate=0.8, warmup_steps=2)
    assert [learning_rate_at(constant, step, 12) for step in (0, 2, 50)] == [0.4, 0.8, 0.8]


def test_average_is_lent_and_given_back():
    config = OptimizerConfig(learning_rate=0.1, average=0.5)
    optimizer = Optimizer(make_parameters(), config, total_steps=9)
    bias, seen = optimizer.parameters["bias"], []
    average = bias.detach().clone()
    for step, rows in enumerate(STEPS, start=1):
        run(optimizer, [rows])
        keep = min(0.5, step / (step + 10))
        average = keep * average + (1 - keep) * bias.detach()
        seen.append(bias.detach().clone())
    with optimizer.averaged():
        torch.testing.assert_close(bias.detach(), average)
        assert not torch.allclose(bias, seen[-1])
    assert torch.equal(bias, seen[-1])


def test_going_on_from_saved_state_is_exact():
    config = OptimizerConfig(learning_rate=0.1, average=0.9, warmup_steps=5)
    whole = Optimizer(make_parameters(), config, total_steps=9)
    run(whole, STEPS)
    first = Optimizer(make_parameters(), config, total_steps=9)
    run(first, STEPS[:1])
    saved = {name: tensor.clone() for name, tensor in first.state_tensors().items()}
    weights = {name: nn.Parameter(p.detach().clone()) for name, p in first.parameters.items()}
    second = Optimizer(weights, config, total_steps=9)
    second.load_state(saved, first.steps)
    run(second, STEPS[1:])
    for name, tensor in whole.state_tensors().items():
        assert torch.equal(second.state_tensors()[name], tensor)
    for name, parameter in whole.parameters.items():
        assert torch.equal(second.parameters[name], parameter)


def test_state_of_other_sizes_is_refused():
    optimizer = Optimizer(make_parameters(), OptimizerConfig(), total_steps=9)
    state = optimizer.state_tensors()
    with pytest.raises(ValueError, match=r"first.table must be \(9, 4\), got none"):
        optimizer.load_state({}, 1)
    with pytest.raises(ValueError, match=r"got \(2,\)"):
        optimizer.load_state({**state, "second.bias": torch.zeros(2)}, 1)
