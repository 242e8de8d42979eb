"""The kernels: a reference in plain PyTorch, a C++ one and a CUDA one behind each function."""

from mfgan.ops.attention import varlen_attention
from mfgan.ops.choice import choice_logsumexp
from mfgan.ops.convolution import causal_convolution
from mfgan.ops.dense import dense
from mfgan.ops.dropout import dropout_residual
from mfgan.ops.factor_score import factor_score
from mfgan.ops.hide_seen import hide_seen
from mfgan.ops.relation_scores import add_relation_scores, relation_projections
from mfgan.ops.relation_sums import relation_sums
from mfgan.ops.softmax_choices import softmax_choices

__all__ = [
    "add_relation_scores",
    "causal_convolution",
    "choice_logsumexp",
    "dense",
    "dropout_residual",
    "factor_score",
    "hide_seen",
    "relation_projections",
    "relation_sums",
    "softmax_choices",
    "varlen_attention",
]
