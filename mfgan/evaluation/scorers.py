"""The trained generator as a scorer, alone or corrected by the discriminators."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mfgan.data.batch import JaggedBatch
from mfgan.models.correction import Correction, corrected
from mfgan.models.frozen_judges import FrozenJudges

if TYPE_CHECKING:
    from mfgan.models.discriminator import Discriminators
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
        return self._generator.scores_after(batch.to(self._device))


class CorrectedScorer:
    """Scores as the generator does, its best items re-ranked by what the discriminators say.

    Args:
        generator: The model.
        discriminators: Of the same run; their weights must not change any more.
        correction: Their weights, and how many items are judged.
        device: Where both live.
    """

    def __init__(
        self,
        generator: "Generator",
        discriminators: "Discriminators",
        correction: Correction,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self._alone = GeneratorScorer(generator, device=device)
        self._device = torch.device(device)
        self._judges = FrozenJudges(discriminators.to(self._device).eval())
        self._weights = torch.tensor(correction.weights, device=self._device)
        self._top_k = correction.top_k

    def __call__(self, batch: JaggedBatch) -> Tensor:
        """``(num_sessions, num_items + 1)`` float32."""
        batch = batch.to(self._device)
        scores = self._alone(batch)
        return corrected(scores, batch, self._judges, self._weights, self._top_k)
