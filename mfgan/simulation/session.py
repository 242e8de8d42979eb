"""How long simulated sessions last, and what one display in them brings."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mfgan.errors import MfganError


@dataclass(frozen=True)
class SessionRule:
    """How long a session lasts.

    Args:
        kind: ``fixed``: exactly ``length`` displays. ``geometric``: after each display the user
            leaves with probability ``1 / length``, and after ``4 * length`` at the latest.
        length: Displays; the mean of the geometric one, its cut apart.
    """

    kind: Literal["fixed", "geometric"] = "fixed"
    length: int = 20

    def __post_init__(self) -> None:
        if self.kind not in ("fixed", "geometric"):
            raise MfganError(f"session: kind must be fixed or geometric, got {self.kind!r}")
        if self.length < 1:
            raise MfganError(f"session: length must be 1 or more, got {self.length}")

    @classmethod
    def parse(cls, text: str) -> "SessionRule":
        """Read ``fixed:20`` or ``geometric:10``.

        Raises:
            MfganError: It is neither.
        """
        kind, colon, length = text.partition(":")
        if not colon or not length.isdigit():
            raise MfganError(f"session: must be fixed:N or geometric:N, got {text!r}")
        return cls(kind, int(length))  # type: ignore[arg-type]

    @property
    def limit(self) -> int:
        """Displays after which every session is over."""
        return self.length if self.kind == "fixed" else 4 * self.length


@dataclass(frozen=True)
class StepResult:
    """What one step did.

    Args:
        clicks: ``(num_users,)`` int64 item_idx clicked, 0 for none.
        rewards: ``(num_users,)`` float32.
        terminated: ``(num_users,)`` bool, the user left.
        truncated: ``(num_users,)`` bool, the session reached its length.
    """

    clicks: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor

    @property
    def done(self) -> Tensor:
        """``(num_users,)`` bool."""
        return self.terminated | self.truncated


def check_pool(size: int, slate: int, session: SessionRule) -> None:
    """Refuse sessions whose displays would have to show again what was shown before.

    Args:
        size: Items in the pool.
        slate: Items of a display.
        session: How long sessions are.

    Raises:
        MfganError: The pool is too small.
    """
    needed = slate * session.limit
    if size < needed:
        raise MfganError(
            f"policy: pool must hold {needed} items or more, {slate} for each of"
            f" {session.limit} displays, got {size}"
        )
