"""Packed attention against PyTorch's own over padded sessions, at the lengths of real users.

The rival gets its tensors padded and laid out as it likes them best; making them is not timed.
"""

import pytest
import torch
import torch.nn.functional as F

from bench.common import lengths
from mfgan.ops import varlen_attention


class Padded:
    """Causal SDPA over ``(num_sessions, num_heads, max_len, head_dim)``."""

    def __init__(self, num_sessions, num_heads, max_len, head_dim, dropout_p=0.0):
        shape = num_sessions, num_heads, max_len, head_dim
        self.inputs = [torch.randn(shape, requires_grad=True) for _ in range(3)]
        self.grad = torch.randn(shape)
        self.dropout_p = dropout_p

    def forward(self):
        F.scaled_dot_product_attention(*self.inputs, is_causal=True, dropout_p=self.dropout_p)

    def train(self):
        out = F.scaled_dot_product_attention(*self.inputs, is_causal=True, dropout_p=self.dropout_p)
        torch.autograd.grad(out, self.inputs, self.grad)


class Packed:
    """The same sessions laid end to end; q, k and v are views of one projection."""

    def __init__(self, sizes, num_heads, max_len, head_dim, dropout_p=0.0):
        self.bounds = torch.tensor([0, *sizes.tolist()]).cumsum(0).to(torch.int32)
        projection = torch.randn(int(sizes.sum()), 3, num_heads, head_dim)
        self.inputs = [x.detach().requires_grad_() for x in projection.unbind(1)]
        self.grad = torch.randn(self.inputs[0].shape)
        self.max_len = max_len
        self.dropout = {"dropout_p": dropout_p, "rng": torch.tensor([1, 2])}

    def forward(self):
        varlen_attention(*self.inputs, self.bounds, self.max_len, **self.dropout)

    def train(self):
        out = varlen_attention(*self.inputs, self.bounds, self.max_len, **self.dropout)
        torch.autograd.grad(out, self.inputs, self.grad)


# name: data set, sessions, longest, heads, head_dim, dropout
TRAIN = {
    "attention-train-long": ("ml-1m", 128, 200, 1, 50, 0.0),
    "attention-train-dropout-long": ("ml-1m", 128, 200, 1, 50, 0.2),
    "attention-train-heads": ("ml-1m", 512, 200, 2, 32, 0.0),
    "attention-train-50": ("ml-1m", 128, 50, 2, 32, 0.0),
    "attention-train-short": ("games", 128, 200, 1, 50, 0.0),
}


def both_sides(dataset, num_sessions, max_len, num_heads, head_dim, dropout_p):
    torch.manual_seed(0)
    sizes = lengths(dataset, max_len, num_sessions)
    ours = Packed(sizes, num_heads, max_len, head_dim, dropout_p)
    return ours, Padded(num_sessions, num_heads, max_len, head_dim, dropout_p)


def test_forward(compare):
    ours, rival = both_sides(*TRAIN["attention-train-long"])
    with torch.no_grad():
        compare("attention-forward-long", ours.forward, rival.forward)


@pytest.mark.parametrize("name", TRAIN)
def test_train(compare, name):
    ours, rival = both_sides(*TRAIN[name])
    compare(name, ours.train, rival.train)
