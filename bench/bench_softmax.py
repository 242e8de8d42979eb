"""The softmax over all items against PyTorch: the whole loss, and what is done to its logits.

The rival of the loss is PyTorch's own that never holds all logits, of the same dtype in its
products. That of the softmax in place is what it takes in PyTorch to have the probabilities where
the logits were, in their dtype, and the logarithm of one a row.
"""

import pytest
import torch
from torch.nn import functional as F

from mfgan.ops import softmax_choices
from mfgan.training.full_softmax import softmax_cross_entropy

WIDTH = 64
# name: tokens, items
LOSSES = {"softmax-loss-3k": (12_800, 3_416), "softmax-loss-12k": (3_200, 12_101)}
ROWS = {"softmax-choices-3k": (307, 3_416), "softmax-choices-12k": (86, 12_101)}
DTYPES = {"": torch.float32, "-bf16": torch.bfloat16}


@pytest.mark.parametrize("suffix", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_loss(compare, name, suffix):
    tokens, items = LOSSES[name]
    dtype = DTYPES[suffix]
    torch.manual_seed(0)
    hidden = torch.randn(tokens, WIDTH, requires_grad=True)
    table = (0.1 * torch.randn(items + 1, WIDTH)).requires_grad_()
    targets = torch.randint(1, items + 1, (tokens,))
    options = torch.nn.LinearCrossEntropyOptions()  # which never hold all logits

    def ours():
        loss = softmax_cross_entropy(hidden, table, targets, precision=dtype)
        return loss, *torch.autograd.grad(loss, (hidden, table))

    def rival():
        states, weights = hidden.to(dtype), table[1:].to(dtype)
        loss = F.linear_cross_entropy(states, weights, targets - 1, options=options)
        return loss, *torch.autograd.grad(loss, (hidden, table))

    # In bfloat16 PyTorch adds the rows' losses up in that, and is five per cent off.
    rough = 0.1 if dtype == torch.bfloat16 else 1e-4
    for mine, other in zip(ours(), rival(), strict=True):
        torch.testing.assert_close(mine, other, rtol=rough, atol=1e-4, check_dtype=False)
    compare(name + suffix, ours, rival)


@pytest.mark.parametrize("suffix", DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_choices(compare, name, suffix):
    torch.manual_seed(0)
    given = torch.randn(*ROWS[name]).to(DTYPES[suffix])
    choices = torch.randint(0, given.shape[1], (len(given), 1))
    logits, wide = torch.empty_like(given), torch.empty_like(given, dtype=torch.float32)

    def ours():
        return softmax_choices(logits.copy_(given), choices)[0]

    def rival():
        torch.softmax(logits.copy_(given), 1, dtype=torch.float32, out=wide)
        found = wide.gather(1, choices).log()
        logits.copy_(wide)
        return found

    torch.testing.assert_close(ours(), rival(), rtol=1e-4, atol=1e-4)
    compare(name + suffix, ours, rival)
