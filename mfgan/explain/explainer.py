"""Explaining a history and its recommendations by a run's discriminators."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from mfgan.data.columns import ITEM_ID, ITEM_IDX, TIMESTAMP, TITLE
from mfgan.explain.judgement import Judge, Judgements, describe
from mfgan.explain.score_parts import ScoreParts, generator_parts
from mfgan.models.correction import contributions
from mfgan.recommend import PROBABILITY, RANK, SCORE, Proposals, Recommender, Session

if TYPE_CHECKING:
    from mfgan.training.run import Run

STEP = "step"
LEADING = "leading"
JUDGEMENT = "judgement"
REASONS = "reasons"
SCORE_PARTS = "score_parts"
BECAUSE = "because"


@dataclass(frozen=True)
class Explanation:
    """One history explained.

    Args:
        name: The user's external id, or the session's name.
        factor_names: The factors, in the order of all columns.
        history: A row a judged step: ``step`` (from 1, the place in the history), ``item_id``,
            ``title`` and, where known, ``timestamp``.
        history_judgements: Of the same rows.
        recommendations: A row an item, as ``Recommender.recommend`` gives them.
        recommendation_judgements: Of the same rows.
        score_parts: What adds up to each recommendation's score, exactly.
        details: Everything, ready for JSON.
    """

    name: str
    factor_names: tuple[str, ...]
    history: pl.DataFrame
    history_judgements: Judgements
    recommendations: pl.DataFrame
    recommendation_judgements: Judgements
    score_parts: ScoreParts
    details: dict[str, Any]

    def to_frame(self) -> pl.DataFrame:
        """A row a factor of each judged item: ``part`` (``history`` or ``recommendation``),
        ``place`` (the step or the rank), ``item_id``, ``title``, ``factor``, ``value``, ``logit``,
        ``probability``, ``weight``, ``share``, of a calibrated run ``contribution`` (of
        recommendations), ``leading``."""
        rows = []
        for part, place in (("history", STEP), ("recommendations", RANK)):
            for entry in self.details[part]:
                head = {
                    "part": part.removesuffix("s"),
                    "place": entry[place],
                    ITEM_ID: entry[ITEM_ID],
                    TITLE: entry[TITLE],
                }
                rows += [
                    {**head, **factor, LEADING: factor["factor"] == entry[LEADING]}
                    for factor in entry["factors"]
                ]
        return pl.DataFrame(rows)


class Explainer:
    """Explains with a trained run that has discriminators.

    Args:
        run: A run, or its directory.
        stage: Whose weights; of the last stage that has been trained where None.
        with_discriminators: As `Recommender` has it: the recommendations are re-ranked.
        device: Where the models compute.

    Example:
        >>> explanation = Explainer("runs/ml-1m").explain(user="42", k=5)
        >>> explanation.to_frame()
    """

    def __init__(
        self,
        run: "Run | str | Path",
        *,
        stage: str | None = None,
        with_discriminators: bool = False,
        device: str = "cpu",
    ) -> None:
        self.recommender = Recommender(
            run, stage=stage, with_discriminators=with_discriminators, device=device
        )
        self.dataset = self.recommender.dataset
        discriminators = self.recommender.run.discriminators(stage)
        self._correction = None if stage is not None else self.recommender.run.correction()
        self._corrects = with_discriminators
        limits = self.recommender.run.config.calibrate
        self._top_k = limits.top_k if self._correction is None else self._correction.top_k
        self.judge = Judge(discriminators, correction=self._correction, device=device)
        self._factors = [self.dataset.factor(name) for name in discriminators.tower_names]
        self._combination = {
            "kind": discriminators.config.combination,
            "sharpness": discriminators.config.sharpness,
        }

    def explain(
        self,
        *,
        user: object = None,
        session: "Session | list[object] | None" = None,
        k: int = 10,
        steps: int = 50,
    ) -> Explanation:
        """Explain a user's history and what she is recommended.

        Args:
            user: An external user id of the data set.
            session: Instead, a history of external item ids.
            k: How many recommendations.
            steps: The last so many steps of the history are judged. The first item of a history
                has nothing before it and is never judged.

        Raises:
            MfganError: An unknown user, no known item, or an argument out of range.
        """
        if session is None:
            history = self.recommender.user(user)
        else:
            given = isinstance(session, Session)
            history = session if given else self.recommender.session(session)  # type: ignore[assignment,arg-type]
        first = max(1, len(history.items) - max(steps, 0))
        judged = self.judge.history(history.items, first=first)
        table = self.recommender.rank([history], k=k)
        items = table[ITEM_IDX].to_numpy().astype(np.int64)
        proposals = self.recommender.propose([history], self._top_k)
        wanted = self._recommended(history, items, proposals)
        parts = self._score_parts(items, wanted, proposals)
        recommended = self._entries(table.select(RANK, ITEM_ID, TITLE, SCORE, PROBABILITY), wanted)
        because = self._because(items, proposals)
        for entry, row, sources in zip(recommended, parts.rows(), because, strict=True):
            entry |= {SCORE_PARTS: row, BECAUSE: sources}
        history_table = self._history_table(history, first, user if session is None else None)
        return Explanation(
            name=history.name,
            factor_names=self.judge.factor_names,
            history=history_table,
            history_judgements=judged,
            recommendations=table.drop("session", ITEM_IDX),
            recommendation_judgements=wanted,
            score_parts=parts,
            details={
                "name": history.name,
                "unknown_items": list(history.unknown),
                "factors": list(self.judge.factor_names),
                "combination": self._combination,
                "history": self._entries(history_table, judged),
                "recommendations": recommended,
            },
        )

    def reasons(self, sessions: Sequence[Session], table: pl.DataFrame) -> pl.DataFrame:
        """Add ``judgement``, ``leading``, ``reasons`` and ``score_parts`` to what
        ``Recommender.rank`` gave; of a generator with relations ``because`` as well."""
        judged: list[dict[str, Any]] = []
        parts: list[dict[str, float]] = []
        because: list[dict[str, str]] = []
        # Rows come in the order of the sessions; names may repeat, so they are counted by rank. Who
        # has had every item has none.
        sessions = [part for part in sessions if self.recommender.has_unseen(part)]
        bounds = [*np.flatnonzero(table[RANK].to_numpy() == 1).tolist(), table.height]
        items = table[ITEM_IDX].to_numpy().astype(np.int64)
        best_of = [items[start:end] for start, end in pairwise(bounds)]
        given = zip(sessions, best_of, self._proposals(sessions), strict=True)
        for session, best, proposals in given:
            judgements = self._recommended(session, best, proposals)
            judged += self._described(judgements)
            parts += self._score_parts(best, judgements, proposals).rows()
            because += self._because(best, proposals)
        explained = table.with_columns(
            pl.Series(JUDGEMENT, [entry[JUDGEMENT] for entry in judged], pl.Float64),
            pl.Series(LEADING, [entry[LEADING] for entry in judged], pl.String),
            pl.Series(REASONS, [entry["factors"] for entry in judged]),
            pl.Series(SCORE_PARTS, parts),
        )
        if self.recommender.generator.relations is None:
            return explained
        return explained.with_columns(pl.Series(BECAUSE, because))

    def _proposals(self, sessions: Sequence[Session]) -> Iterator[Proposals]:
        """The generator's own best items of each session, looked for in many at once."""
        for block in self.recommender.blocks(sessions) if sessions else ():
            proposals = self.recommender.propose(block, self._top_k)
            yield from (proposals.of(row) for row in range(len(block)))

    @torch.inference_mode()
    def _recommended(
        self, history: Session, items: npt.NDArray[np.int64], proposals: Proposals
    ) -> Judgements:
        """Judge recommendations; of a calibrated run with what each factor adds to the score."""
        judged = self.judge.candidates(history.items, items)
        if self._correction is None:
            return judged
        proposed = proposals.items[0].cpu().numpy()
        others = self.judge.candidates(history.items, proposed, with_sources=False)
        logits, usual = (torch.from_numpy(part.logits)[None] for part in (judged, others))
        added = contributions(logits, proposals.logits.cpu(), usual, self._correction)[0].numpy()
        # What is not among the proposals was not re-ranked.
        return replace(judged, contributions=added * np.isin(items, proposed)[:, None])

    @torch.inference_mode()
    def _score_parts(
        self, items: npt.NDArray[np.int64], judged: Judgements, proposals: Proposals
    ) -> ScoreParts:
        """Of the generator's logit, and of the judges where they have their part in the ranking."""
        generator = self.recommender.generator
        places = torch.from_numpy(items)[None].to(proposals.items.device)
        states = (proposals.hidden, proposals.relations)
        found = generator_parts(generator, *states, places, proposals.logits, proposals.items)
        parts = ScoreParts(generator.part_names, found[0].float().cpu().numpy())
        if not self._corrects or judged.contributions is None:
            return parts
        return parts.plus(self.judge.factor_names, judged.contributions)

    @torch.inference_mode()
    def _because(self, items: npt.NDArray[np.int64], proposals: Proposals) -> list[dict[str, str]]:
        """For each item and relation of the generator the title of what in the history adds most
        to the item's score, empty where nothing does."""
        term, relations = self.recommender.generator.relations, proposals.relations
        names = () if term is None else term.names
        if relations is None:
            return [dict.fromkeys(names, "") for _ in items]
        asked = torch.from_numpy(items)[None].to(proposals.items.device)
        titles = self.dataset.item_titles
        return [
            {
                name: titles[source] if source else ""
                for name, source in zip(names, row, strict=True)
            }
            for row in relations.strongest(asked)[0].tolist()
        ]

    def _history_table(self, history: Session, first: int, user: object) -> pl.DataFrame:
        items = history.items[first:]
        columns = {
            STEP: np.arange(first + 1, len(history.items) + 1),
            ITEM_ID: self.dataset.item_ids.take(items),
            TITLE: self.dataset.item_titles.take(items),
        }
        if user is not None and self.dataset.timestamps is not None:
            index = self.dataset.user_idx(str(user))
            start, end = (int(self.dataset.offsets[index + place]) for place in (0, 1))  # type: ignore[operator]
            columns[TIMESTAMP] = pl.Series(
                self.dataset.timestamps[start + first : end], dtype=pl.Datetime("ms")
            )
        return pl.DataFrame(columns)

    def _entries(self, table: pl.DataFrame, judged: Judgements) -> list[dict[str, Any]]:
        if TIMESTAMP in table.columns:
            table = table.with_columns(pl.col(TIMESTAMP).dt.to_string("iso"))
        described = self._described(judged)
        return [{**row, **found} for row, found in zip(table.to_dicts(), described, strict=True)]

    def _described(self, judged: Judgements) -> list[dict[str, Any]]:
        return describe(judged, self.judge.factor_names, self._factors, self.dataset.item_titles)
