"""When an operator may be called below the dispatcher's autograd layer.

``torch.library.register_autograd`` goes through Python once more for every call and once more for
its gradient, which costs more than a kernel takes on a few short sessions. In eager mode an
``autograd.Function`` that calls the operator below that layer does the same with less; compiled and
exported programs keep the registered gradient.
"""

import torch
from torch import Tensor

below_autograd = torch._C._AutoDispatchBelowAutograd


def is_plain() -> bool:
    """Whether nothing compiles or exports the program."""
    return not torch.compiler.is_compiling()


def wants_gradient(*inputs: Tensor | None) -> bool:
    """Whether autograd has to record a call with these inputs."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
