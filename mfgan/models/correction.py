"""The discriminators' judgements as a correction of the generator's ranking.

The logit ``y_j`` of a discriminator that tells real items from the generator's draws as well as its
factor allows is ``log p_data - log p_generator`` up to a constant of the position. So
``log G(i | history) + sum_j b_j y_j(history, i)`` is the better ranking, as far as it does; the
weights ``b_j`` say how far, and are fitted where neither model has learned.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mfgan.errors import MfganError
from mfgan.models.chance import ChanceCurve
from mfgan.models.combination import factor_weights
from mfgan.models.seen import Seen

if TYPE_CHECKING:
    from mfgan.data.batch import JaggedBatch
    from mfgan.models.discriminator import Discriminators

Judges = Callable[["JaggedBatch", Tensor, Tensor], Tensor]
"""``(batch, positions, candidates)`` to ``(num_positions, num_candidates, num_factors)`` logits."""

CALIBRATION_FILE = "calibration.json"  # where the stage keeps a correction

_PLACED_AT_ONCE = 1 << 16  # seen items, each with a row of top_k numbers beside it


@dataclass(frozen=True)
class FactorCorrection:
    """One factor's part.

    Args:
        name: The factor.
        weight: ``b_j``, of its logit in the ranking.
        error: The standard error of the fitted weight in units of the generator's own, which
            is taken as known; ``weight`` is sure at three of it.
        chance: From ``y_j`` to the log-odds that an item is the real one and not the generator's,
            both being equally likely before.
        calibration: Expected calibration error of that chance, on users it was not fitted to.
        raw_calibration: The same of ``sigmoid(y_j)``.
    """

    name: str
    weight: float
    error: float
    chance: ChanceCurve
    calibration: float
    raw_calibration: float

    @classmethod
    def from_dict(cls, document: Any) -> "FactorCorrection":
        """Read what ``asdict`` made of one; errors are those of the types."""
        chance = ChanceCurve(
            **{name: tuple(map(float, values)) for name, values in document["chance"].items()}
        )
        numbers = ("weight", "error", "calibration", "raw_calibration")
        found = {name: float(document[name]) for name in numbers}
        return cls(**{**document, **found, "chance": chance})


@dataclass(frozen=True)
class Correction:
    """What the ``calibrate`` stage finds.

    Args:
        factors: In the order of the discriminators' factors.
        top_k: How many of the generator's best items are judged.
        num_choices: Users whose choice among those the weights were fitted to.
        gain: Log-likelihood per choice over that of the generator alone.
        fitted_to: SHA-256 of the file with each model's weights; empty where nobody knows.
    """

    factors: tuple[FactorCorrection, ...]
    top_k: int
    num_choices: int
    gain: float
    fitted_to: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> tuple[float, ...]:
        """``b_j`` of every factor."""
        return tuple(factor.weight for factor in self.factors)

    def calibrated(self, logits: Tensor) -> Tensor:
        """``(..., num_factors)`` logits of the discriminators as those of calibrated chances."""
        said = zip(self.factors, logits.unbind(-1), strict=True)
        return torch.stack([factor.chance(y) for factor, y in said], -1)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Any, names: Sequence[str], where: str) -> "Correction":
        """Read what ``to_dict`` gave.

        Args:
            document: The JSON document.
            names: The factors that it must be of, in order.
            where: Named in errors.

        Raises:
            MfganError: It is something else, or of other factors.
        """
        try:
            factors = tuple(FactorCorrection.from_dict(factor) for factor in document["factors"])
            rest = {name: value for name, value in document.items() if name != "factors"}
            # Of a run from before it was noted there is none.
            rest["fitted_to"] = dict(rest.get("fitted_to", {}))
            found = cls(factors=factors, **rest)
            if operator.index(found.top_k) < 1:
                raise ValueError(f"top_k {found.top_k}")
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise MfganError(f"{where}: must be a calibration, got {error}") from None
        if [factor.name for factor in found.factors] != list(names):
            got = ", ".join(factor.name for factor in found.factors)
            raise MfganError(f"{where}: factors must be {', '.join(names)}, got {got}")
        return found


def weights_and_chances(
    logits: Tensor, discriminators: "Discriminators", correction: Correction | None
) -> tuple[Tensor, Tensor]:
    """What the joint judgement ``Q = sum_j w_j p_j`` and each factor's share in it are made of.

    Args:
        logits: ``(..., num_factors)``, ``y_j``.
        discriminators: Whose logits; their configuration says how ``w_j`` follows.
        correction: Of a calibrated run; None takes every ``y_j`` as the log-odds that it claims.

    Returns:
        ``w_j`` and the chances ``p_j`` that the item is the real one, both ``(..., num_factors)``.
    """
    log_odds = logits if correction is None else correction.calibrated(logits)
    weights = factor_weights(
        log_odds, sharpness=discriminators.config.sharpness, mixture=discriminators.mixture
    )
    return weights, log_odds.sigmoid()


def corrected(
    scores: Tensor,
    batch: "JaggedBatch",
    judges: Judges,
    weights: Tensor,
    top_k: int,
) -> Tensor:
    """Re-rank each session's best unseen items; the other unseen ones keep their order behind them.

    What the session has had is not judged and keeps its place among the judged: it is never
    recommended, but may well come next, and is then ranked against these.

    Args:
        scores: ``(num_sessions, num_items + 1)`` the generator's logits; column 0 is ignored.
        batch: The sessions.
        judges: Who judges the best ``top_k`` that the session has not had, without dropout; nobody
            is asked where all weights are 0.
        weights: ``(num_factors,)``.
        top_k: Items judged; all unseen ones where there are no more.

    Returns:
        Scores of the same shape.
    """
    if not weights.any():
        return scores
    best, items = best_unseen(scores, batch, top_k)
    there = best.isfinite()
    moved = best + judges(batch, batch.last_tokens(), items) @ weights
    last = best.where(there, torch.inf).amin(1, keepdim=True)
    lowest = moved.where(there, torch.inf).amin(1, keepdim=True)
    # What was not judged cannot pass the last of the judged.
    down = (lowest - last).clamp(max=0.0).where(there.any(1, keepdim=True), 0.0)
    outside = scores + down
    result: Tensor = outside.scatter(1, items, moved.where(there, outside.gather(1, items)))
    judged = torch.zeros_like(scores, dtype=torch.bool).scatter(1, items, there)
    ranked = moved.where(there, -torch.inf).sort(1, descending=True).values
    for seen in torch.split((~judged & (scores > last)).nonzero(), _PLACED_AT_ONCE):
        rows, columns = seen.unbind(1)
        result[rows, columns] = _in_place(scores[rows, columns], best[rows], ranked[rows])
    return result


def _in_place(values: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Where values stand in one descending row of numbers, they will stand in another.

    Args:
        values: ``(n,)``, each above the last finite one of its row.
        before: ``(n, k)``, descending.
        after: ``(n, k)``, descending.

    Returns:
        ``(n,)``: between two numbers of ``after`` as the value is between those of ``before``.
    """
    place = (before > values.unsqueeze(1)).sum(1, keepdim=True)
    above = (place - 1).clamp_min(0)
    low, high = before.gather(1, place).squeeze(1), before.gather(1, above).squeeze(1)
    new_low, new_high = after.gather(1, place).squeeze(1), after.gather(1, above).squeeze(1)
    # Above the first there is nothing to be between, and it keeps its distance.
    scale = torch.where(high > low, (new_high - new_low) / (high - low), 1.0)
    return new_low + (values - low) * scale


def contributions(
    logits: Tensor, best: Tensor, candidates: Tensor, correction: Correction
) -> Tensor:
    """What each factor adds to an item's corrected score, beyond what it adds to any candidate's.

    ``b_j (y_j(i) - sum_c p(c) y_j(c))``, ``c`` over the generator's candidates and ``p`` its chance
    of each among them: a factor that says the same of all has no part in the choice.

    Args:
        logits: ``(num_sessions, n, num_factors)``, ``y_j`` of the items in question.
        best: ``(num_sessions, num_candidates)``, the generator's logits of its best items.
        candidates: ``(num_sessions, num_candidates, num_factors)``, ``y_j`` of those.
        correction: Has ``b_j``.

    Returns:
        ``(num_sessions, n, num_factors)``, signed.
    """
    usual = torch.einsum("nc,ncf->nf", best.softmax(1), candidates)
    return (logits - usual.unsqueeze(1)) * logits.new_tensor(correction.weights)


def best_unseen(scores: Tensor, batch: "JaggedBatch", top_k: int) -> tuple[Tensor, Tensor]:
    """Each session's best items among those that it has not had.

    Args:
        scores: ``(num_sessions, num_items + 1)``; column 0 is ignored.
        batch: The sessions.
        top_k: How many; all items where there are no more.

    Returns:
        Scores and int64 item_idx, both ``(num_sessions, top_k)``; where too few items are unseen,
        the last ones are others, with a score of minus infinity.
    """
    unseen = scores[:, 1:].clone()
    Seen.of(batch, batch.last_tokens()).hide(unseen, slice(None), kept=None)
    best, places = unseen.topk(min(top_k, unseen.shape[1]), dim=1)
    return best, places + 1
