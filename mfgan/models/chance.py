"""From a discriminator's logit to the calibrated chance that an item is the real one."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChanceCurve:
    """The log-odds of the real item over ``y``: a straight line between each two points.

    Beyond the outermost points it goes on as the outermost lines do; a single point is a level.

    Args:
        logits: ``y`` of the points, ascending; at least one.
        log_odds: Of the chance there, never falling.

    Raises:
        ValueError: The points are none, or out of order.
    """

    logits: tuple[float, ...]
    log_odds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.logits or len(self.logits) != len(self.log_odds):
            raise ValueError(
                "a chance must have as many log_odds as logits, and at least one, got "
                f"{len(self.log_odds)} and {len(self.logits)}"
            )
        if not all(before < after for before, after in pairwise(self.logits)):
            raise ValueError(f"logits of a chance must ascend, got {self.logits}")
        if not all(before <= after for before, after in pairwise(self.log_odds)):
            raise ValueError(f"log_odds of a chance must never fall, got {self.log_odds}")

    def __call__(self, y: Tensor) -> Tensor:
        """The log-odds of any shape of logits, in their dtype."""
        logits, log_odds = y.new_tensor(self.logits), y.new_tensor(self.log_odds)
        if len(logits) == 1:
            return log_odds.expand_as(y)
        slopes = log_odds.diff() / logits.diff()
        line = torch.bucketize(y.contiguous(), logits[1:-1])
        return log_odds[line] + slopes[line] * (y - logits[line])
