"""Groups of users by how long their history is, and by whether it holds their target."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NEW_TARGET, REPEATED_TARGET = "target new", "target had before"
SPARSE = 32  # histories shorter than this are the sparse users of the MFGAN paper


@dataclass(frozen=True)
class LengthSlice:
    """Users whose history before the target has ``low <= length < high``; no ``high``, no end."""

    low: int
    high: int | None

    @property
    def name(self) -> str:
        """What a table calls it."""
        if self.high is None:
            return f"history {self.low} or more"
        if self.low == 0:
            return f"history under {self.high}"
        return f"history {self.low} to {self.high - 1}"

    def members(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """``(num_users,)`` bool, who belongs to it."""
        inside: npt.NDArray[np.bool_] = lengths >= self.low
        return inside if self.high is None else inside & (lengths < self.high)


LENGTH_SLICES = (
    LengthSlice(0, SPARSE),
    LengthSlice(SPARSE, None),
    LengthSlice(0, 8),
    LengthSlice(8, 16),
    LengthSlice(16, 32),
    LengthSlice(32, 64),
    LengthSlice(64, 128),
    LengthSlice(128, 256),
    LengthSlice(256, None),
)
"""The paper's sparse users and all others, then finer bins; they overlap on purpose."""
