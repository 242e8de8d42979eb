"""The trained generator as a scorer."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mfgan.data.batch import JaggedBatch

if TYPE_CHECKING:
    from mfgan.models.generator import Generator


class GeneratorScorer:
    """Scores items by the generator's logits after each session's last token.

    Args:
        generator: The model; it is used as it is, so its weights may change between calls.
        device: Where it lives.
    """

    def __init__(self, generator: "Generator", *, device: torch.device | str = "cpu") -> None:
        self._generator, self._device = generator, torch.device(device)

    def __call__(self, batch: JaggedBatch) -> Tensor:
        """``(num_sessions, num_items + 1)`` float32."""
        batch = batch.to(self._device)
        hidden = self._generator(batch, last_only=True)
        # The reserved column 0 is nobody's business here, so the plain product will do.
        scores: Tensor = hidden @ self._generator.item_table.T
        return scores
