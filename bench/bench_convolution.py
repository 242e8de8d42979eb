"""The packed convolution against PyTorch's depthwise one over padded sessions.

The rival gets its tensors padded and laid out as it likes them best; making them is not timed.
"""

import pytest
import torch
import torch.nn.functional as F

from bench.common import lengths
from mfgan.ops import causal_convolution

TAPS, WIDTH = 10, 128
# name: data set, sessions, longest
TRAIN = {
    "convolution-train-long": ("ml-1m", 64, 200),
    "convolution-train-short": ("games", 64, 50),
}


def packed(sizes):
    bounds = torch.tensor([0, *sizes.tolist()]).cumsum(0).to(torch.int32)
    x = torch.randn(int(sizes.sum()), WIDTH, requires_grad=True)
    taps, grad = torch.randn(TAPS, WIDTH, requires_grad=True), torch.randn(x.shape)

    def train():
        torch.autograd.grad(causal_convolution(x, taps, bounds), (x, taps), grad)

    return train


def padded(num_sessions, max_len):
    x = torch.randn(num_sessions, WIDTH, max_len, requires_grad=True)
    taps, grad = torch.randn(WIDTH, 1, TAPS, requires_grad=True), torch.randn(x.shape)

    def train():
        out = F.conv1d(F.pad(x, (TAPS - 1, 0)), taps, groups=WIDTH) + x
        torch.autograd.grad(out, (x, taps), grad)

    return train


@pytest.mark.parametrize("name", TRAIN)
def test_train(compare, name):
    dataset, num_sessions, max_len = TRAIN[name]
    torch.manual_seed(0)
    ours = packed(lengths(dataset, max_len, num_sessions))
    compare(name, ours, padded(num_sessions, max_len))
