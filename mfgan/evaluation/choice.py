"""How well a model of choice foresees clicks: likelihood, precision, calibration, and floors."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfgan.data.displays.batch import EventBatch
from mfgan.data.displays.dataset import DisplayDataset
from mfgan.errors import MfganError
from mfgan.evaluation.bootstrap import mean_intervals
from mfgan.models.choice import Choice

# Utilities nearer than this are ties: equal rows may differ in the last bit of a matrix product.
TIE = 1e-5
# The likelihood of a click that a model (sparsemax) calls impossible.
LEAST_PROBABILITY = 1e-6
NUM_BINS = 10
LOG_LIKELIHOOD, ECE = "log-likelihood", "ECE"
METRICS = (LOG_LIKELIHOOD, "P@1", "P@2", ECE)

Scorer = Callable[[EventBatch], tuple[Tensor, Choice]]


@dataclass(frozen=True)
class ChoiceEvaluation:
    """What an evaluation over displays found.

    Args:
        likelihoods: ``(num_events,)`` float64 log-probability of what happened.
        hits: ``(num_clicks, 2)`` float64 P@1 and P@2 of each event with a click, ties by
            expectation.
        bins: ``(num_events, NUM_BINS, 3)`` float64 rows, sum of probabilities and clicks by bin
            of probability.
        seed: Of the intervals.
    """

    likelihoods: np.ndarray
    hits: np.ndarray
    bins: np.ndarray
    seed: int = 0

    @property
    def num_events(self) -> int:
        """Displays judged."""
        return len(self.likelihoods)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """log-likelihood an event, P@1, P@2 over events with a click, ECE over rows."""
        hits = self.hits.mean(axis=0) if len(self.hits) else np.full(2, np.nan)
        values = (self.likelihoods.mean(), *hits, _ece(self.bins.sum(axis=0)[None])[0])
        return dict(zip(METRICS, map(float, values), strict=True))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Percentile bootstrap 95 % intervals over events."""
        bounds = [
            *mean_intervals(self.likelihoods[:, None], seed=self.seed),
            *mean_intervals(self.hits, seed=self.seed),
            self._ece_interval(),
        ]
        return {
            name: (float(low), float(high))
            for name, (low, high) in zip(METRICS, bounds, strict=True)
        }

    def _ece_interval(self, resamples: int = 500) -> np.ndarray:
        rng = np.random.default_rng([self.seed, len(ECE)])
        share = np.full(self.num_events, 1 / self.num_events)
        draws = rng.multinomial(self.num_events, share, size=resamples)
        flat = draws @ self.bins.reshape(self.num_events, -1)
        values = _ece(flat.reshape(resamples, NUM_BINS, 3))
        return np.asarray(np.quantile(values, [0.025, 0.975]))

    @cached_property
    def reliability(self) -> list[dict[str, float]]:
        """For each bin of probability: rows, mean probability and share clicked."""
        return [
            {"rows": int(rows), "probability": total / rows, "clicked": clicks / rows}
            for rows, total, clicks in self.bins.sum(axis=0).tolist()
            if rows
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "num_events": self.num_events,
            "metrics": self.metrics,
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "reliability": self.reliability,
        }


def _ece(bins: np.ndarray) -> np.ndarray:
    """``(n,)`` expected calibration error of ``(n, NUM_BINS, 3)`` bins (Guo et al., ICML 2017)."""
    rows = np.maximum(bins[..., 0].sum(axis=1), 1)
    return np.asarray(np.abs(bins[..., 1] - bins[..., 2]).sum(axis=1) / rows)


@torch.no_grad()
def evaluate_choice(
    batches: Iterable[EventBatch], scorer: Scorer, *, seed: int = 0
) -> ChoiceEvaluation:
    """Hold a model of choice against what users did.

    Args:
        batches: The displays.
        scorer: Gives ``(num_rows,)`` utilities and the choice probabilities of a batch; precision
            ranks by the utilities, so that items of probability zero keep their order.
        seed: Of the intervals.

    Returns:
        Metrics, intervals and calibration.
    """
    likelihoods, hits, bins = [], [], []
    for batch in batches:
        utilities, choice = scorer(batch)
        clicked = batch.clicks >= 0
        rows = batch.clicks[clicked]
        what = choice.none.clone()
        what[clicked] = choice.rows[rows]
        likelihoods.append(what.double().clamp_min(LEAST_PROBABILITY).log().cpu().numpy())
        hits.append(click_hits(utilities, batch)[clicked].cpu().numpy())
        happened = torch.zeros_like(choice.rows)
        happened[rows] = 1
        bins.append(_bin(choice.rows.double(), happened.double(), batch))
    return ChoiceEvaluation(
        np.concatenate(likelihoods), np.concatenate(hits), np.concatenate(bins), seed
    )


def judged_users(dataset: DisplayDataset, part: str) -> np.ndarray:
    """``(n,)`` int64 users of a part that a model is judged on, ascending.

    Args:
        dataset: Prepared displays.
        part: ``train``, ``validation`` or ``test``.

    Raises:
        MfganError: No such part, or nobody in it.
    """
    users = dataset.users(part)
    if not len(users):
        raise MfganError(f"{dataset.path}: must have {part} users to judge on, got none")
    return users


def click_hits(utilities: Tensor, batch: EventBatch) -> Tensor:
    """``(num_events, 2)`` float64: chance that the click is first, and among the first two.

    Args:
        utilities: ``(num_rows,)``.
        batch: Displays; of those without a click the value is meaningless.
    """
    mine = utilities[batch.clicks.clamp_min(0)][batch.events]
    margin = TIE * mine.abs().clamp_min(1.0)
    better = (utilities > mine + margin).double()
    equal = ((utilities - mine).abs() <= margin).double()
    counts = torch.zeros(batch.num_events, 2, dtype=torch.float64, device=utilities.device)
    counts.index_add_(0, batch.events, torch.stack([better, equal], dim=1))
    cutoffs = torch.tensor([1.0, 2.0], dtype=torch.float64, device=utilities.device)
    return ((cutoffs - counts[:, :1]) / counts[:, 1:].clamp_min(1)).clamp(0, 1)


def _bin(probabilities: Tensor, happened: Tensor, batch: EventBatch) -> np.ndarray:
    place = (probabilities * NUM_BINS).long().clamp_max(NUM_BINS - 1)
    table = torch.zeros(
        batch.num_events * NUM_BINS, 3, dtype=torch.float64, device=probabilities.device
    )
    values = torch.stack([torch.ones_like(probabilities), probabilities, happened], dim=1)
    table.index_add_(0, batch.events * NUM_BINS + place, values)
    return table.view(-1, NUM_BINS, 3).cpu().numpy()


def floors(dataset: DisplayDataset, users: np.ndarray) -> Mapping[str, Scorer]:
    """What must be beaten: chance, and the clicks of each item among the training users.

    Both know how often training users click at all; the popularity floor then chooses in
    proportion to clicks + 1.

    Args:
        dataset: Prepared displays.
        users: ``(n,)`` int64 training users.
    """
    events = np.isin(dataset.event_users, users)
    rate = float((dataset.clicks[events] >= 0).mean())
    _, clicks = dataset.counts(users)
    even = torch.zeros(len(clicks), dtype=torch.float32)
    popular = torch.from_numpy(clicks).float()

    def scorer(counts: Tensor) -> Scorer:
        def score(batch: EventBatch) -> tuple[Tensor, Choice]:
            values = counts[batch.items]
            share = values + 1
            total = torch.zeros(batch.num_events).index_add(0, batch.events, share)
            none = torch.full((batch.num_events,), 1 - rate)
            return values, Choice(rate * share / total[batch.events], none)

        return score

    return {"random": scorer(even), "popularity": scorer(popular)}
