"""The definition of ``choice_logsumexp`` in plain PyTorch."""

import torch
from torch import Tensor


def choice_logsumexp(utilities: Tensor, offsets: Tensor, *, no_click: bool) -> Tensor:
    """See :func:`mfgan.ops.choice_logsumexp`."""
    sizes = offsets.diff()
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(utilities) or bool((sizes < 0).any()):
        raise ValueError(f"choice_logsumexp: offsets must rise from 0 to {len(utilities)}")
    wide = utilities if utilities.dtype == torch.float64 else utilities.float()
    sets = len(offsets) - 1
    owner = torch.repeat_interleave(sizes, output_size=len(utilities))
    top = wide.new_full((sets,), 0.0 if no_click else -torch.inf)
    top = top.scatter_reduce(0, owner, wide.detach(), "amax")
    # An infinite maximum stands for an empty set, or for utilities that are infinite themselves.
    shift = torch.where(top.isfinite(), top, 0.0)
    total = (-shift).exp() if no_click else wide.new_zeros(sets)
    total = total.index_add(0, owner, (wide - shift[owner]).exp())
    return (total.log() + shift).to(utilities.dtype)
