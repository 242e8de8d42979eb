"""The sessions of an attention case: packed, padded, and what attention over them is."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gpu.lengths import session_lengths

_CHECKED_SESSIONS = 8


@dataclass(frozen=True)
class AttentionSizes:
    """What a case is made of; ``source`` is ``ml-1m``, ``games`` or ``whole`` (all alike)."""

    name: str
    group: str
    source: str
    num_sessions: int
    max_len: int
    num_heads: int
    head_dim: int
    dtype: torch.dtype


class Sessions:
    """Queries, keys and values of one case, packed, and the same padded.

    Args:
        sizes: Of the case.
        device: Where the tensors live.
    """

    def __init__(self, sizes: AttentionSizes, device: torch.device) -> None:
        self.sizes, self.device = sizes, device
        if sizes.source == "whole":
            self.lengths, self.drawn_from = np.full(sizes.num_sessions, sizes.max_len), "all alike"
        else:
            self.lengths, self.drawn_from = session_lengths(
                sizes.source, sizes.max_len, sizes.num_sessions
            )
        self.total = int(self.lengths.sum())
        bounds = np.concatenate([[0], np.cumsum(self.lengths)])
        self.offsets = torch.from_numpy(bounds).to(device)
        self.cu_seqlens = self.offsets.int()
        self.longest = int(self.lengths.max())

    @cached_property
    def packed(self) -> Tensor:
        """``(total_tokens, 4, num_heads, head_dim)``: q, k, v and the gradient of the output."""
        generator = torch.Generator().manual_seed(1)
        shape = self.total, 4, self.sizes.num_heads, self.sizes.head_dim
        return torch.randn(shape, generator=generator).to(self.device, self.sizes.dtype)

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """Session and place within it of each token, ``(total_tokens,)`` int64."""
        session = np.repeat(np.arange(len(self.lengths)), self.lengths)
        place = np.arange(self.total) - np.concatenate([[0], np.cumsum(self.lengths)])[session]
        return torch.from_numpy(session).to(self.device), torch.from_numpy(place).to(self.device)

    def padded(self) -> list[Tensor]:
        """Contiguous ``(num_sessions, num_heads, longest, head_dim)`` of what ``packed`` holds."""
        shape = len(self.lengths), self.longest, *self.packed.shape[2:]
        parts = []
        for part in self.packed.unbind(1):
            full = part.new_zeros(shape)
            full[self.places] = part
            parts.append(full.transpose(1, 2).contiguous())
        return parts

    def unpadded(self, out: Tensor) -> Tensor:
        """``(num_sessions, num_heads, longest, head_dim)`` as ``(total_tokens, ...)``."""
        return out.transpose(1, 2)[self.places]

    def checked(self, out: Tensor) -> Tensor:
        """The tokens of the first sessions, which the check looks at."""
        return out[: int(self.lengths[:_CHECKED_SESSIONS].sum())]

    def exact(self) -> Tensor:
        """What attention over the first sessions is, in float64."""
        rows = []
        for first, last in zip(*self._first_bounds(), strict=True):
            q, k, v, _ = self.packed[first:last].double().permute(1, 2, 0, 3)
            rows.append(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1))
        return torch.cat(rows)

    def _first_bounds(self) -> tuple[list[int], list[int]]:
        bounds = np.concatenate([[0], np.cumsum(self.lengths[:_CHECKED_SESSIONS])]).tolist()
        return bounds[:-1], bounds[1:]

    def multiplications(self) -> int:
        """Floating-point operations of the forward pass over the causal half alone."""
        pairs = int((self.lengths * (self.lengths + 1) // 2).sum())
        return 4 * pairs * self.sizes.num_heads * self.sizes.head_dim
