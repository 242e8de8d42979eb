"""What every factor's discriminator says of what a user took, and of what she is recommended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mfgan.data.batch import JaggedBatch
from mfgan.data.factors import Factor
from mfgan.models.correction import weights_and_chances
from mfgan.models.frozen_judges import FrozenJudges

if TYPE_CHECKING:
    from mfgan.models.correction import Correction
    from mfgan.models.discriminator import Discriminators

_JUDGED_AT_ONCE = 1024

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Judgements:
    """The factors' judgements of some items, each after a history.

    Args:
        items: ``(n,)`` int64 item_idx.
        logits: ``(n, num_factors)`` float32, ``y_j``.
        probabilities: ``(n, num_factors)`` float32, ``sigmoid(y_j)``, calibrated where the run is:
            how real the item looks.
        weights: ``(n, num_factors)`` float32, ``w_j``; a row adds up to 1.
        contributions: ``(n, num_factors)`` float32, what each factor adds to the item's score in
            the corrected ranking, beyond what it adds to any candidate's; None where the run is
            not calibrated, and of a history.
        sources: ``(n, num_relations)`` int64 item_idx, what of the history says most for the item
            by each relation, 0 for nothing.
    """

    items: npt.NDArray[np.int64]
    logits: Floats
    probabilities: Floats
    weights: Floats
    contributions: Floats | None = None
    sources: npt.NDArray[np.int64] | None = None

    @property
    def combined(self) -> Floats:
        """``(n,)`` float32, ``Q``, the weighted mean of the probabilities."""
        total: Floats = (self.weights * self.probabilities).sum(axis=1)
        return total

    @property
    def shares(self) -> Floats:
        """``(n, num_factors)`` float32, each part of ``Q`` over all of it; a row adds up to 1."""
        parts = self.weights * self.probabilities
        # All judgements may underflow to 0 together; then no factor leads.
        total = parts.sum(axis=1, keepdims=True)
        even = np.full_like(parts, 1.0 / parts.shape[1])
        shares: Floats = np.divide(parts, total, out=even, where=total > 0)
        return shares

    @property
    def leading(self) -> npt.NDArray[np.int64]:
        """``(n,)`` the factor with the largest share, the first of equals."""
        places: npt.NDArray[np.int64] = self.shares.argmax(axis=1)
        return places


class Judge:
    """Asks the discriminators.

    Args:
        discriminators: The trained ones; their weights must not change any more.
        correction: Makes their probabilities calibrated ones; they are ``sigmoid(y_j)`` without.
        device: Where they live.
    """

    def __init__(
        self,
        discriminators: "Discriminators",
        *,
        correction: "Correction | None" = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._correction = correction
        self._discriminators = discriminators.to(device).eval()
        self._frozen = FrozenJudges(self._discriminators)
        self._device = torch.device(device)

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The factors, in the order of all columns here."""
        return self._discriminators.factor_names

    def history(self, items: npt.NDArray[np.int32], *, first: int = 1) -> Judgements:
        """Judge each step of a history by what went before it.

        Args:
            items: ``(n,)`` item_idx, chronological.
            first: The first place judged, counted from 0; the item at place 0 has no history.
        """
        first = max(1, first)
        places = np.arange(first - 1, len(items) - 1)
        return self._judge(items, places, items[first:, None].astype(np.int64))

    def candidates(
        self,
        items: npt.NDArray[np.int32],
        candidates: npt.NDArray[np.int64],
        *,
        with_sources: bool = True,
    ) -> Judgements:
        """Judge candidates for the place after a history.

        Args:
            items: ``(n,)`` item_idx, chronological, at least one.
            candidates: ``(m,)`` item_idx.
            with_sources: Whether it is asked what of the history speaks for each.
        """
        end = np.array([len(items) - 1])
        return self._judge(items, end, candidates[None, :], with_sources=with_sources)

    @torch.inference_mode()
    def _judge(
        self,
        items: npt.NDArray[np.int32],
        places: npt.NDArray[np.int64],
        candidates: npt.NDArray[np.int64],
        *,
        with_sources: bool = True,
    ) -> Judgements:
        batch = JaggedBatch.from_sequences([items], max_len=max(1, len(items))).to(self._device)
        relations = self._discriminators.relations
        parts, sources = [], []
        for start in range(0, len(places), _JUDGED_AT_ONCE):
            here = slice(start, start + _JUDGED_AT_ONCE)
            position = torch.from_numpy(places[here]).to(self._device)
            judged = torch.from_numpy(candidates[here]).to(self._device)
            parts.append(self._frozen(batch, position, judged).flatten(0, 1))
            if relations is not None and with_sources:
                strongest = relations.strongest(batch, position, judged)
                sources.append(strongest.flatten(0, 1).cpu().numpy())
        empty = torch.zeros(0, len(self.factor_names), device=self._device)
        logits: Tensor = torch.cat([empty, *parts])
        weights, chances = weights_and_chances(logits, self._discriminators, self._correction)
        return Judgements(
            items=candidates.ravel(),
            logits=logits.cpu().numpy(),
            probabilities=chances.cpu().numpy(),
            weights=weights.cpu().numpy(),
            sources=np.concatenate(sources) if sources else None,
        )


def _value_label(factor: Factor, item: int) -> str:
    """What a factor calls an item's value; a vector has no name, so it is an empty string."""
    if factor.kind == "dense":
        return ""
    if factor.offsets is None:
        return factor.labels[int(factor.values[item])]
    bag = factor.values[factor.offsets[item] : factor.offsets[item + 1]]
    return ", ".join(factor.labels[int(value)] for value in bag)


def describe(
    judgements: Judgements,
    names: Sequence[str],
    factors: Sequence[Factor],
    titles: Sequence[str],
) -> list[dict[str, Any]]:
    """The judgements ready for JSON.

    Args:
        judgements: Of some items.
        names: The factors, then the relations.
        factors: The factors alone.
        titles: Of the items, by item_idx.

    Returns:
        One mapping an item with ``judgement``, ``leading``, and ``factors``, a list of ``factor,
        value, logit, probability, weight, share``, and where there is one ``contribution``. The
        value of a relation is the title of what in the history says most for the item.
    """
    rows = []
    combined, shares, leading = judgements.combined, judgements.shares, judgements.leading
    added, sources = judgements.contributions, judgements.sources
    for row, item in enumerate(judgements.items.tolist()):
        values = [_value_label(factor, item) for factor in factors]
        related = [0] * (len(names) - len(factors)) if sources is None else sources[row].tolist()
        values += [titles[source] if source else "" for source in related]
        columns = zip(
            names,
            values,
            judgements.logits[row].tolist(),
            judgements.probabilities[row].tolist(),
            judgements.weights[row].tolist(),
            shares[row].tolist(),
            strict=True,
        )
        keys = ("factor", "value", "logit", "probability", "weight", "share")
        described: list[dict[str, Any]] = [dict(zip(keys, c, strict=True)) for c in columns]
        if added is not None:
            for factor, value in zip(described, added[row].tolist(), strict=True):
                factor["contribution"] = value
        rows.append(
            {
                "judgement": float(combined[row]),
                "leading": names[int(leading[row])],
                "factors": described,
            }
        )
    return rows
