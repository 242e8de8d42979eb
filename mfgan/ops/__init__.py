"""The kernels: a reference in plain PyTorch, a C++ one and a CUDA one behind each function."""

from mfgan.ops.attention import varlen_attention
from mfgan.ops.dropout import dropout_residual

__all__ = ["dropout_residual", "varlen_attention"]
