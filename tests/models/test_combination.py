import math

import torch

from mfgan.models.combination import combine, factor_weights


def test_combination_runs_from_mean_to_maximum():
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), -math.log(4.0)]])
    torch.testing.assert_close(combine(logits), torch.tensor([(0.5 + 0.75) / 2, 0.5]))
    torch.testing.assert_close(combine(logits, sharpness=math.inf), torch.tensor([0.75, 0.8]))
    torch.testing.assert_close(combine(logits, sharpness=1e4), torch.tensor([0.75, 0.8]))
    share = 1 / (1 + math.exp(-2.0 * 0.25))
    torch.testing.assert_close(
        combine(logits, sharpness=2.0)[0], torch.tensor(0.75 * share + 0.5 * (1 - share))
    )
    mixture = torch.tensor([math.log(3.0), 0.0])
    torch.testing.assert_close(combine(logits, mixture=mixture), torch.tensor([0.5625, 0.65]))
    assert torch.allclose(factor_weights(logits, sharpness=3.0).sum(-1), torch.ones(2))
    ties = factor_weights(torch.zeros(1, 4), sharpness=math.inf)
    assert torch.equal(ties, torch.full((1, 4), 0.25))
