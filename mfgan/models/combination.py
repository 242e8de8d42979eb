"""The factors' judgements as one."""

from torch import Tensor
from torch.nn import functional as F


def combine(logits: Tensor, *, sharpness: float = 0.0, mixture: Tensor | None = None) -> Tensor:
    """Combine the factors' judgements: ``Q = sum_j w_j sigmoid(y_j)`` (Ren et al., section 4).

    Args:
        logits: ``(..., num_factors)``.
        sharpness: lambda of ``w = softmax(lambda * sigmoid(y))``: 0 gives the mean, and the limit
            of large ones, infinity included, the maximum.
        mixture: ``(num_factors,)`` where the weights are learned: ``w = softmax(mixture)``.

    Returns:
        ``(...)``, between 0 and 1.
    """
    probabilities = logits.sigmoid()
    return (factor_weights(logits, sharpness=sharpness, mixture=mixture) * probabilities).sum(-1)


def factor_weights(
    logits: Tensor, *, sharpness: float = 0.0, mixture: Tensor | None = None
) -> Tensor:
    """The weights ``w_j`` of ``combine``, ``(..., num_factors)``, each place's adding up to 1."""
    if mixture is not None:
        return mixture.softmax(-1).expand_as(logits)
    probabilities = logits.sigmoid()
    if sharpness == float("inf"):
        best = probabilities == probabilities.amax(-1, keepdim=True)
        return best / best.sum(-1, keepdim=True)
    return F.softmax(sharpness * probabilities, dim=-1)
