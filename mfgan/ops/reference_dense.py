"""The definition of ``dense`` in plain PyTorch."""

from torch import Tensor
from torch.nn import functional as F

from mfgan.ops.dropout import dropout_residual


def dense(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    eps: float = 1e-6,
    activation: str = "none",
    residual: Tensor | None = None,
    dropout_p: float = 0.0,
    rng: Tensor | None = None,
    site: int = 0,
) -> Tensor:
    """See ``mfgan.ops.dense``."""
    if norm_weight is not None and norm_bias is not None:
        x = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, eps)
    elif norm_weight is not None:
        x = F.rms_norm(x, x.shape[-1:], norm_weight, eps)
    x = F.linear(x, weight, bias)
    if activation == "relu":
        x = F.relu(x)
    elif activation == "gelu":
        x = F.gelu(x, approximate="tanh")
    if residual is None and rng is None:
        return x
    return dropout_residual(x, residual, dropout_p=dropout_p, rng=rng, site=site)
