"""``softmax_choices`` in plain PyTorch: the contract, and what serves where there is no kernel."""

import torch
from torch import Tensor


def softmax_choices(
    logits: Tensor, choices: Tensor, *, entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """See ``mfgan.ops.softmax_choices``."""
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    log_probs = logits.log_softmax(1, dtype=wide)
    chosen = log_probs.gather(1, choices)
    if not entropy:
        logits.copy_(log_probs.exp_())
        return chosen, None
    probs = log_probs.exp()
    logits.copy_(probs)
    # What cannot be has no share in the entropy, though its logarithm is infinite.
    surprise = torch.where(probs > 0, log_probs, 0.0).mul_(probs)
    return chosen, -surprise.sum(1)
