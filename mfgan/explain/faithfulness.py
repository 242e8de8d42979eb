"""Whether explanations hold: what each factor is claimed to bring, against what it turns out to.

A claim is put to the test by taking a factor's values away: they are dealt out anew among all items
of the catalogue, in the history as in the candidate, and what an item then loses is the factor's
measured part.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mfgan.data.batching import history_batches
from mfgan.evaluation.bootstrap import mean_intervals
from mfgan.evaluation.scorers import GeneratorScorer
from mfgan.explain.dealt import DealtAnew, dealt_items
from mfgan.explain.ranks import Floats, mean_over, rank_correlation
from mfgan.explain.score_faithfulness import RANDOM, score_parts_held
from mfgan.models.correction import best_unseen, contributions, weights_and_chances
from mfgan.models.discriminator import Discriminators

if TYPE_CHECKING:
    from mfgan.data.batch import JaggedBatch
    from mfgan.models.correction import Correction
    from mfgan.training.run import Run

_BATCH = 64
SHARE, CONTRIBUTION = "share", "contribution"
JUDGEMENT, SCORE = "judgement", "score"


@dataclass(frozen=True)
class Agreement:
    """A claim against a measurement, over the factors of each item.

    Args:
        claim: ``share``, ``contribution``, ``random``, or of the generator's own factors ``score
            part``.
        measured: What dropped: the ``judgement`` Q, or how far the corrected ``score``, or the
            generator's ``logit``, lies above that of an average candidate.
        correlation: Spearman's, mean over items and then over users.
        interval: 95 % bootstrap interval over users.
    """

    claim: str
    measured: str
    correlation: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Faithfulness:
    """How far a run's explanations hold.

    Args:
        names: The factors.
        num_users: Users whose first recommendations were explained, drawn once.
        agreements: Every claim against every measurement; the score's and ``contribution`` only of
            a calibrated run where some factor counts in the ranking, the logit's only of a
            generator that has factors.
        drops: ``(num_factors,)`` float64, what the judgement Q lost on average when the factor's
            values were dealt anew.
    """

    names: tuple[str, ...]
    num_users: int
    agreements: tuple[Agreement, ...]
    drops: Floats


@torch.inference_mode()
def faithfulness(
    run: "Run",
    *,
    stage: str | None = None,
    users: int = 500,
    k: int = 10,
    deals: int = 8,
    seed: int = 0,
) -> Faithfulness:
    """Explain users' first recommendations, and measure what each factor brought to them.

    Args:
        run: A run with discriminators.
        stage: Whose weights; of the last stage where None.
        users: How many, drawn once from those with a test target.
        k: Recommendations of each.
        deals: How often the values are dealt anew; a drop is the mean over them.
        seed: Of all draws.

    Raises:
        MfganError: No stage has trained discriminators.
    """
    dataset, generator = run.dataset, run.generator(stage).eval()
    rng = np.random.default_rng([seed, len("faithfulness")])
    everyone = dataset.target_users("test")
    everyone = everyone[dataset.history_ends(everyone, "test") > dataset.offsets[everyone]]
    chosen = np.sort(rng.choice(everyone, min(users, len(everyone)), replace=False))
    correction = None if stage is not None else run.correction()
    probe = _Probe(run.discriminators(stage).eval(), correction, deals, rng)
    score, max_len = GeneratorScorer(generator), generator.config.max_len
    batches = list(history_batches(dataset, chosen, "test", max_len=max_len, batch_size=_BATCH))
    found = [probe(score(batch), batch, k) for batch in batches]
    pairs = [
        (*pair, np.concatenate([part.correlations[pair] for part in found]))
        for pair in found[0].correlations
    ]
    top_k = run.config.calibrate.top_k if correction is None else correction.top_k
    pairs += score_parts_held(generator, batches, k=k, top_k=top_k, deals=deals, rng=rng)
    return Faithfulness(
        names=probe.discriminators.factor_names,
        num_users=len(chosen),
        agreements=tuple(_agreement(*pair, seed) for pair in pairs),
        drops=np.concatenate([part.drops for part in found]).mean(0),
    )


@dataclass(frozen=True)
class _Found:
    correlations: dict[tuple[str, str], Floats]  # (num_sessions,) by claim and measurement
    drops: Floats  # (num_sessions, num_factors) of the judgement, means over items


class _Probe:
    """Explains a batch's recommendations, and takes the factors' values away."""

    def __init__(
        self,
        discriminators: Discriminators,
        correction: "Correction | None",
        deals: int,
        rng: np.random.Generator,
    ) -> None:
        self.discriminators, self._correction, self._rng = discriminators, correction, rng
        self._dealt = [_dealt_anew(discriminators, rng) for _ in range(deals)]

    def __call__(self, scores: Tensor, batch: "JaggedBatch", k: int) -> _Found:
        correction, last = self._correction, batch.last_tokens()
        top_k = k if correction is None else max(k, correction.top_k)
        best, items = best_unseen(scores, batch, top_k)
        logits = self.discriminators(batch, last, items)
        without = [judge(batch, last, items) for judge in self._dealt]
        claimed, drops = {}, {}
        weights, chances = self._judged(logits[:, :k])
        claimed[SHARE] = weights * chances
        claimed[RANDOM] = torch.from_numpy(self._rng.random(claimed[SHARE].shape))
        # A factor's tower reads its own values alone, so that all can be dealt anew at once.
        lost = [self._lost(logits[:, :k], judged[:, :k]) for judged in without]
        drops[JUDGEMENT] = torch.stack(lost).mean(0)
        if correction is not None and any(correction.weights):
            claimed[CONTRIBUTION] = contributions(logits[:, :k], best, logits, correction)
            left = [contributions(y[:, :k], best, y, correction) for y in without]
            drops[SCORE] = claimed[CONTRIBUTION] - torch.stack(left).mean(0)
        there = best[:, :k].isfinite()
        return _Found(
            {
                (claim, measured): mean_over(rank_correlation(claimed[claim], drop), there)
                for measured, drop in drops.items()
                for claim in claimed
            },
            mean_over(drops[JUDGEMENT], there),
        )

    def _lost(self, logits: Tensor, without: Tensor) -> Tensor:
        """What the judgement Q loses by each factor alone, ``(..., num_factors)``; where factors
        are weighed by what they say, the weights of all change."""
        whole = self._joint(logits)
        columns = torch.eye(logits.shape[-1], dtype=torch.bool).unbind()
        left = [self._joint(without.where(column, logits)) for column in columns]
        return torch.stack([whole - part for part in left], -1)

    def _joint(self, logits: Tensor) -> Tensor:
        weights, chances = self._judged(logits)
        return (weights * chances).sum(-1)

    def _judged(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        return weights_and_chances(logits, self.discriminators, self._correction)


def _agreement(claim: str, measured: str, values: Floats, seed: int) -> Agreement:
    low, high = mean_intervals(values[:, None], seed=seed)[0]
    return Agreement(claim, measured, float(values.mean()), (float(low), float(high)))


def _dealt_anew(discriminators: Discriminators, rng: np.random.Generator) -> Discriminators:
    """The same discriminators, with each factor's values dealt out anew among the items."""
    judge = deepcopy(discriminators)
    if judge.num_towers:
        rows = judge.embedding.num_rows
        owners = np.stack([dealt_items(rows, rng) for _ in range(judge.num_towers)])
        judge.embedding = DealtAnew(judge.embedding, owners)  # type: ignore[assignment]
    if judge.relations is not None:
        rows = judge.relations.num_items + 1
        owners = np.stack([dealt_items(rows, rng) for _ in judge.relations.names])
        judge.relations.dealt(torch.from_numpy(owners))
    return judge
