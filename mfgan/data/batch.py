"""The one object that crosses from data to models: sessions laid end to end, no padding."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfgan.errors import MfganError

_TOKEN_FIELDS = ("items", "positions", "targets", "timestamps")


@dataclass(frozen=True)
class JaggedBatch:
    """A packed batch of sessions.

    Args:
        items: ``(total_tokens,)`` int64, item_idx of each token.
        cu_seqlens: ``(num_sessions + 1,)`` int32, bounds of the sessions, on the device of items.
        offsets: ``(num_sessions + 1,)`` int64, the same bounds on the host.
        max_seqlen: Length of the longest session.
        positions: ``(total_tokens,)`` int64, place counted from the session's start, from 0.
        users: ``(num_sessions,)`` int64 user_idx, -1 where unknown.
        targets: ``(total_tokens,)`` int64 next item of each token, 0 for none; or None.
        timestamps: ``(total_tokens,)`` int64 milliseconds; or None.
        earlier: ``(n,)`` int64, what the users had before the session's first token, laid end to
            end; None where the sessions are all there is.
        earlier_offsets: ``(num_sessions + 1,)`` int64 bounds of ``earlier``, on its device.

    Raises:
        MfganError: A tensor has another shape or dtype than stated.

    Example:
        >>> batch = JaggedBatch.from_sequences([[3, 1, 2], [5]], max_len=2)
        >>> batch.items.tolist(), batch.offsets.tolist()
        ([1, 2, 5], [0, 2, 3])
    """

    items: Tensor
    cu_seqlens: Tensor
    offsets: Tensor
    max_seqlen: int
    positions: Tensor
    users: Tensor
    targets: Tensor | None = None
    timestamps: Tensor | None = None
    earlier: Tensor | None = None
    earlier_offsets: Tensor | None = None

    def __post_init__(self) -> None:
        for name in _TOKEN_FIELDS:
            _check(name, getattr(self, name), torch.int64, self.total_tokens)
        _check("cu_seqlens", self.cu_seqlens, torch.int32, self.num_sessions + 1)
        _check("offsets", self.offsets, torch.int64, self.num_sessions + 1)
        _check("users", self.users, torch.int64, self.num_sessions)
        if (self.earlier is None) != (self.earlier_offsets is None):
            raise MfganError("JaggedBatch: earlier and earlier_offsets must both be given or none")
        if self.earlier is not None:
            _check("earlier", self.earlier, torch.int64, self.earlier.shape[0])
        _check("earlier_offsets", self.earlier_offsets, torch.int64, self.num_sessions + 1)
        if self.offsets.device.type != "cpu":
            raise MfganError(f"JaggedBatch: offsets must be on the host, got {self.offsets.device}")

    @property
    def num_sessions(self) -> int:
        """How many sessions the batch holds."""
        return self.offsets.shape[0] - 1

    @property
    def total_tokens(self) -> int:
        """How many tokens the batch holds."""
        return self.items.shape[0]

    def require_targets(self) -> Tensor:
        """``targets``.

        Raises:
            ValueError: The batch has none.
        """
        if self.targets is None:
            raise ValueError("batch must have targets, got none")
        return self.targets

    def last_tokens(self) -> Tensor:
        """Where each session ends.

        Returns:
            ``(num_sessions,)`` int64, index of each session's last token, on the device of items.

        Raises:
            MfganError: A session is empty.
        """
        lengths = np.diff(self.offsets.numpy())
        if self.num_sessions and lengths.min() == 0:
            empty = int(np.flatnonzero(lengths == 0)[0])
            raise MfganError(
                f"last_tokens: every session must hold a token, session {empty} is empty"
            )
        return self.cu_seqlens[1:].long() - 1

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "JaggedBatch":
        """The batch on another device; ``offsets`` stay on the host."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "JaggedBatch":
        """The batch in page-locked memory, from where copies to a GPU overlap with work."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Any) -> "JaggedBatch":
        moved = {
            field.name: function(value)
            for field in fields(self)
            if field.name != "offsets" and isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    @classmethod
    def from_sequences(
        cls,
        sequences: Sequence[Any],
        *,
        max_len: int,
        targets: Sequence[Any] | None = None,
        users: Any = None,
        timestamps: Sequence[Any] | None = None,
    ) -> "JaggedBatch":
        """Pack sequences given one by one, each cut to its last ``max_len`` interactions.

        What is cut off is the batch's ``earlier``.

        Args:
            sequences: One array or list of item_idx a session; empty ones are legal.
            max_len: The longest a session may be.
            targets: The next items of each session, as long as the session.
            users: ``(num_sessions,)`` user_idx; -1 for all where None.
            timestamps: Milliseconds of each session, as long as the session.

        Returns:
            The batch, on the host.

        Raises:
            MfganError: ``max_len`` is below 1, or the parts do not fit each other.
        """
        if max_len < 1:
            raise MfganError(f"from_sequences: max_len must be at least 1, got {max_len}")
        lengths = np.array([min(len(sequence), max_len) for sequence in sequences], np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        users = np.full(len(lengths), -1) if users is None else np.asarray(users)
        parts = {"items": sequences, "targets": targets, "timestamps": timestamps}
        for name, part in parts.items():
            if part is not None and [len(p) for p in part] != [len(s) for s in sequences]:
                raise MfganError(f"from_sequences: {name} must be as long as the sequences")
        packed = {
            name: _concatenate(part, max_len) for name, part in parts.items() if part is not None
        }
        positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        cut = [np.asarray(s, np.int64)[:-max_len] for s in sequences]
        if any(map(len, cut)):
            packed["earlier"] = np.concatenate(cut)
            packed["earlier_offsets"] = np.cumsum([0, *map(len, cut)])
        return cls.from_arrays(offsets=offsets, positions=positions, users=users, **packed)

    @classmethod
    def from_arrays(
        cls,
        *,
        items: np.ndarray,
        offsets: np.ndarray,
        positions: np.ndarray,
        users: np.ndarray,
        targets: np.ndarray | None = None,
        timestamps: np.ndarray | None = None,
        earlier: np.ndarray | None = None,
        earlier_offsets: np.ndarray | None = None,
    ) -> "JaggedBatch":
        """Wrap packed arrays; int64 ones are shared, not copied. Shapes as for the class."""
        bounds = torch.from_numpy(np.ascontiguousarray(offsets, np.int64))
        return cls(
            items=_tensor(items),
            cu_seqlens=bounds.to(torch.int32),
            offsets=bounds,
            max_seqlen=int(np.diff(offsets).max(initial=0)),
            positions=_tensor(positions),
            users=_tensor(users),
            targets=None if targets is None else _tensor(targets),
            timestamps=None if timestamps is None else _tensor(timestamps),
            earlier=None if earlier is None else _tensor(earlier),
            earlier_offsets=None if earlier_offsets is None else _tensor(earlier_offsets),
        )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.int64))


def _concatenate(sequences: Sequence[Any], max_len: int) -> np.ndarray:
    tails = [np.asarray(sequence, np.int64)[-max_len:] for sequence in sequences]
    return np.concatenate([np.zeros(0, np.int64), *tails])


def _check(name: str, tensor: Tensor | None, dtype: torch.dtype, size: int) -> None:
    if tensor is not None and (tensor.dtype != dtype or tensor.shape != (size,)):
        raise MfganError(
            f"JaggedBatch: {name} must be {dtype} of shape ({size},), got {tensor.dtype} of shape"
            f" {tuple(tensor.shape)}"
        )
