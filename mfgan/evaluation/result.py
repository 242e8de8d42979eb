"""What an evaluation found: metrics with intervals, slices, and what is recommended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mfgan.data.columns import ITEM_IDX, USER_IDX
from mfgan.evaluation.bootstrap import mean_intervals
from mfgan.evaluation.metrics import metric_names, metric_values
from mfgan.evaluation.slices import LENGTH_SLICES, NEW_TARGET, REPEATED_TARGET

HISTORY = "history_length"
REPEATED = "repeated"
BETTER = "better"
TIES = "ties"
RANK = "expected_rank"


@dataclass(frozen=True)
class Slice:
    """A group of users: its name, size, metrics and their 95 % intervals."""

    name: str
    num_users: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Evaluation:
    """The outcome of ``evaluate``.

    Args:
        split: ``test`` or ``validation``.
        protocol: ``full`` or ``sampled:n``.
        cutoffs: The k of the metrics.
        seed: Of the sampled candidates and of the bootstrap.
        users: ``(num_users,)`` int64 user_idx.
        targets: ``(num_users,)`` int64 item_idx.
        lengths: ``(num_users,)`` int64, interactions before the target.
        repeated: ``(num_users,)`` bool, whether the target is among them. It ranks all the same,
            but a recommender that never repeats will not show it.
        better: ``(num_users,)`` int64, candidates that score better than the target.
        ties: ``(num_users,)`` int64, other candidates that score the same.
        coverage: ``coverage@k``: the share of the catalogue that is in somebody's first k. Empty
            under a sampled protocol, which recommends nothing.
        popularity: ``popularity@k``: the mean share of the catalogue that has fewer training
            interactions than a recommended item (ties count half); .5 is what random lists have.
            ``interactions@k``: its mean number of training interactions.
    """

    split: str
    protocol: str
    cutoffs: tuple[int, ...]
    seed: int
    users: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    repeated: npt.NDArray[np.bool_]
    better: npt.NDArray[np.int64]
    ties: npt.NDArray[np.int64]
    coverage: Mapping[str, float] = field(default_factory=dict)
    popularity: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_users(self) -> int:
        """How many users were ranked for."""
        return len(self.users)

    @property
    def suffix(self) -> str:
        """What follows a metric's name, so that sampled figures never pass for full ones."""
        return "" if self.protocol == "full" else f" ({self.protocol.partition(':')[2]} sampled)"

    @cached_property
    def names(self) -> list[str]:
        """The metrics' names."""
        return [name + self.suffix for name in metric_names(self.cutoffs)]

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The mean of each metric over users."""
        values, counts = self._distinct(np.ones(self.num_users, np.bool_))
        return self._means(values, counts)

    @cached_property
    def _intervals(self) -> dict[str, tuple[float, float]]:
        values, counts = self._distinct(np.ones(self.num_users, np.bool_))
        return self._bounds(values, counts)

    def interval(self, name: str) -> tuple[float, float]:
        """The bootstrap 95 % interval of a metric's mean over users."""
        return self._intervals[name]

    @cached_property
    def per_user(self) -> pl.DataFrame:
        """A row a user: user_idx, the target, history, better, ties, the rank, each metric.

        And whether the target is a repeated one.
        """
        values = metric_values(self.better, self.ties, self.cutoffs)
        columns: dict[str, npt.NDArray[Any]] = {
            USER_IDX: self.users,
            ITEM_IDX: self.targets,
            HISTORY: self.lengths,
            REPEATED: self.repeated,
            BETTER: self.better,
            TIES: self.ties,
            RANK: self.better + self.ties / 2.0 + 1.0,
        }
        columns |= {name: values[:, place] for place, name in enumerate(self.names)}
        return pl.DataFrame(columns)

    @cached_property
    def slices(self) -> list[Slice]:
        """The metrics of users by the length of their history; empty groups are left out.

        Where some had their target before, of these and of the others as well.
        """
        groups = {rule.name: rule.members(self.lengths) for rule in LENGTH_SLICES}
        if self.repeated.any():
            groups |= {NEW_TARGET: ~self.repeated, REPEATED_TARGET: self.repeated}
        return [self._slice(name, group) for name, group in groups.items() if group.any()]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the single users, ready for JSON."""
        return {
            "split": self.split,
            "protocol": self.protocol,
            "seed": self.seed,
            "num_users": self.num_users,
            "metrics": self.metrics,
            "intervals": {name: list(self.interval(name)) for name in self.names},
            "coverage": dict(self.coverage),
            "popularity": dict(self.popularity),
            "slices": [
                {
                    "name": part.name,
                    "num_users": part.num_users,
                    "metrics": dict(part.metrics),
                    "intervals": {name: list(pair) for name, pair in part.intervals.items()},
                }
                for part in self.slices
            ],
        }

    def _slice(self, name: str, members: npt.NDArray[np.bool_]) -> Slice:
        values, counts = self._distinct(members)
        means, bounds = self._means(values, counts), self._bounds(values, counts)
        return Slice(name, int(members.sum()), means, bounds)

    def _distinct(
        self, members: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        # Users with the same counts have the same metrics; most share the few best ranks.
        pairs = np.stack([self.better[members], self.ties[members]], axis=1)
        rows, counts = np.unique(pairs, axis=0, return_counts=True)
        return metric_values(rows[:, 0], rows[:, 1], self.cutoffs), counts.astype(np.int64)

    def _means(
        self, values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
    ) -> dict[str, float]:
        means = counts @ values / max(int(counts.sum()), 1)
        return dict(zip(self.names, means.tolist(), strict=True))

    def _bounds(
        self, values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
    ) -> dict[str, tuple[float, float]]:
        bounds = mean_intervals(values, counts=counts, seed=self.seed)
        return {n: (float(a), float(b)) for n, (a, b) in zip(self.names, bounds, strict=True)}
