"""What a recommendation's score is made of, beyond what the score of any candidate is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from mfgan.models.generator import Generator
    from mfgan.models.relation_term import RelationScores


@dataclass(frozen=True)
class ScoreParts:
    """Parts that add up to how far each score lies above that of an average candidate.

    Args:
        names: Of the parts: what is the item's own, then its factors and relations.
        values: ``(n, len(names))`` float32, signed, in units of the score: a part of 1 makes the
            item e times as probable beside a candidate that does not have it.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float32]

    def plus(self, names: Sequence[str], values: npt.NDArray[np.float32]) -> "ScoreParts":
        """With more parts, those of a name that is there already added to it."""
        together = (*self.names, *(name for name in names if name not in self.names))
        total = np.zeros((len(self.values), len(together)), np.float32)
        total[:, : len(self.names)] = self.values
        for name, column in zip(names, values.T, strict=True):
            total[:, together.index(name)] += column
        return ScoreParts(together, total)

    def rows(self) -> list[dict[str, float]]:
        """The parts of each item by name, ready for JSON."""
        return [dict(zip(self.names, row, strict=True)) for row in self.values.tolist()]


def generator_parts(
    generator: "Generator",
    hidden: Tensor,
    relations: "RelationScores | None",
    items: Tensor,
    best: Tensor,
    candidates: Tensor,
) -> Tensor:
    """What each part of the item vectors, and each relation, adds beyond a candidate's.

    ``h . v_p(i) - sum_c p(c) h . v_p(c)``, ``v_p`` a part of an item's vector, ``c`` over the
    generator's candidates and ``p`` its chance of each among them; alike what a relation says.

    Args:
        generator: Whose logits.
        hidden: ``(num_sessions, hidden_dim)``, its states after each session.
        relations: What relations add to its logits there; None for nothing.
        items: ``(num_sessions, n)`` int64, the items in question.
        best: ``(num_sessions, num_candidates)``, its logits of its best items.
        candidates: ``(num_sessions, num_candidates)`` int64, which those are.

    Returns:
        ``(num_sessions, n, len(generator.part_names))``, signed.
    """
    others = generator.logit_parts(hidden, candidates, relations)
    usual = torch.einsum("nc,ncf->nf", best.softmax(1), others)
    return generator.logit_parts(hidden, items, relations) - usual.unsqueeze(1)
