"""What to recommend next: to users of the data set, or to sessions never seen before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from mfgan.data.batch import JaggedBatch
from mfgan.data.columns import ITEM_ID, ITEM_IDX, TITLE, USER_ID
from mfgan.data.readers.cells import ids
from mfgan.errors import MfganError, nearest
from mfgan.evaluation.protocol import Scorer
from mfgan.evaluation.scan import Excluded, Scan, scan_block
from mfgan.evaluation.scorers import CorrectedScorer, GeneratorScorer
from mfgan.models.correction import best_unseen

if TYPE_CHECKING:
    from mfgan.data.dataset import PreparedDataset
    from mfgan.models.generator import Generator
    from mfgan.models.relation_term import RelationScores
    from mfgan.training.run import Run

SESSION = "session"
RANK = "rank"
SCORE = "score"
PROBABILITY = "probability"

# Scores held at once: so few that the memory of the last block serves the next one, but not so few
# sessions that each pays for a step of its own.
_BLOCK_BYTES, _BLOCK_SESSIONS = 4 << 20, 16


@dataclass(frozen=True)
class Session:
    """A history to recommend for.

    Args:
        name: A user's external id, or the place of a session among those given.
        items: ``(n,)`` int32 item_idx, chronological.
        unknown: External ids that the catalogue lacks, in order; they were skipped.
    """

    name: str
    items: npt.NDArray[np.int32]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposals:
    """The generator's own best unseen items, as the discriminators re-rank them.

    Args:
        hidden: ``(num_sessions, hidden_dim)``, its states after each session.
        relations: What relations add to its logits there; None for nothing.
        logits: ``(num_sessions, top_k)`` of its best, minus infinity where too few are unseen.
        items: ``(num_sessions, top_k)`` int64 item_idx.
    """

    hidden: Tensor
    relations: "RelationScores | None"
    logits: Tensor
    items: Tensor

    def of(self, session: int) -> "Proposals":
        """Those of one session, as the only one."""
        row = slice(session, session + 1)
        relations = None if self.relations is None else self.relations.of(row)
        return Proposals(self.hidden[row], relations, self.logits[row], self.items[row])


class Recommender:
    """Recommends with a trained run. Items that a history holds are never recommended again.

    Args:
        run: A run, or its directory.
        stage: Whose weights; of the last stage that has been trained where None.
        with_discriminators: The generator's best items are re-ranked by what the discriminators
            say of them, as the calibrate stage weighed it; not together with ``stage``.
        device: Where the models compute.

    Raises:
        MfganError: Nothing is trained, or ``with_discriminators`` and the run is not calibrated.

    Example:
        >>> recommender = Recommender("runs/ml-1m")
        >>> recommender.recommend(users=["42"], k=5)
        >>> recommender.recommend(sessions=[["1193", "661"], ["3408"]])
    """

    def __init__(
        self,
        run: "Run | str | Path",
        *,
        stage: str | None = None,
        with_discriminators: bool = False,
        device: str = "cpu",
    ) -> None:
        if isinstance(run, (str, Path)):
            from mfgan.training.run import Run

            run = Run.open(run)
        self.run = run
        self.dataset: PreparedDataset = self.run.dataset
        generator = self.run.generator(stage).to(device).eval()
        self._device = torch.device(device)
        self.generator = generator
        self._score: Scorer = GeneratorScorer(generator, device=device)
        if with_discriminators:
            self._score = self._corrected(generator, stage, device)
        self._max_len: int = generator.config.max_len

    def _corrected(self, generator: "Generator", stage: str | None, device: str) -> Scorer:
        correction = self.run.correction()
        if correction is None or stage is not None:
            got = "no calibration" if correction is None else f"stage {stage}"
            raise MfganError(
                f"{self.run.path}: recommending with discriminators must be of a calibrated run "
                f"and its last weights, got {got}; run `mfgan train --stage calibrate --resume`"
            )
        return CorrectedScorer(generator, self.run.discriminators(), correction, device=device)

    def user(self, user_id: object) -> Session:
        """The whole history of a user of the data set.

        Raises:
            MfganError: The data set has no such user.
        """
        user = self.dataset.user_idx(str(user_id))
        if user is None:
            raise MfganError(
                f"recommend: user {str(user_id)!r} must be in the data set, found none"
            )
        return Session(str(user_id), np.asarray(self.dataset.history(user, "all"), np.int32))

    def session(self, item_ids: Sequence[object], *, name: str = "0") -> Session:
        """A history given by external item ids, chronological; unknown ones are skipped.

        Raises:
            MfganError: No item of it is known.
        """
        found = self.known(item_ids, name=name)
        if not len(found.items):
            raise MfganError(
                "recommend: a session must hold an item of the catalogue, got "
                f"{', '.join(found.unknown[:5]) or 'none'}"
            )
        return found

    def known(self, item_ids: Sequence[object], *, name: str) -> Session:
        """As ``session``, but with no item where none is known."""
        names = [str(item) for item in item_ids]
        found = [self.dataset.item_idx(item) for item in names]
        items = np.array([item for item in found if item is not None], np.int32)
        unknown = tuple(n for n, item in zip(names, found, strict=True) if item is None)
        return Session(name, items, unknown)

    def has_unseen(self, session: Session) -> bool:
        """Whether there is an item that the session has not had."""
        return len(np.unique(session.items)) < self.dataset.num_items

    def recommend(
        self,
        *,
        users: Sequence[object] | None = None,
        sessions: Any = None,
        k: int = 10,
    ) -> pl.DataFrame:
        """The best items for each user or session.

        Args:
            users: External user ids of the data set.
            sessions: Histories as sequences of external item ids; or a table with the columns
                ``session`` and ``item_id``, rows in chronological order, as Polars, pandas or
                anything else that speaks the Arrow C stream.
            k: How many items each; fewer where the catalogue has no more unseen ones.

        Returns:
            A row an item: ``user_id`` or ``session``, ``rank`` from 1, ``item_id``, ``title``,
            ``score`` (the generator's logit, re-ranked where discriminators are) and
            ``probability`` (its softmax over the items that the history does not hold).

        Raises:
            MfganError: Not exactly one of ``users`` and ``sessions``, an unknown user, a session
                without a known item, or ``k`` below 1.
        """
        if (users is None) == (sessions is None):
            raise MfganError("recommend: give either users or sessions")
        if users is not None:
            _check_many("users", users)
            return self.rank([self.user(user) for user in users], k=k).rename({SESSION: USER_ID})
        given = list(read_sessions(sessions))
        return self.rank([self.session(items, name=name) for name, items in given], k=k)

    def rank(self, sessions: Sequence[Session], *, k: int = 10) -> pl.DataFrame:
        """As ``recommend``, for histories already looked up, with ``item_idx`` beside the id."""
        if k < 1:
            raise MfganError(f"recommend: k must be at least 1, got {k}")
        k = min(k, self.dataset.num_items)
        return pl.concat([self._block(block, k) for block in self.blocks(sessions)])

    def blocks(self, sessions: Sequence[Session]) -> Iterator[Sequence[Session]]:
        """The sessions, as many at once as there is room for their scores of all items; an empty
        block where there are none."""
        step = max(_BLOCK_SESSIONS, _BLOCK_BYTES // (4 * (self.dataset.num_items + 1)))
        for first in range(0, max(len(sessions), 1), step):
            yield sessions[first : first + step]

    @torch.inference_mode()
    def propose(self, sessions: Sequence[Session], top_k: int) -> Proposals:
        """What the generator would recommend by itself, however the run ranks."""
        histories = [session.items for session in sessions]
        batch = JaggedBatch.from_sequences(histories, max_len=self._max_len).to(self._device)
        hidden = self.generator(batch, last_only=True)
        relations = self.generator.relation_scores(batch, batch.last_tokens())
        scores = self.generator.logits(hidden, relations)
        return Proposals(hidden, relations, *best_unseen(scores.float(), batch, top_k))

    @torch.inference_mode()
    def _block(self, sessions: Sequence[Session], k: int) -> pl.DataFrame:
        histories = [session.items for session in sessions]
        batch = JaggedBatch.from_sequences(histories, max_len=self._max_len)
        scores = self._score(batch).float()
        ends = np.cumsum([len(history) for history in histories], dtype=np.int64)
        lengths = np.diff(ends, prepend=0)
        seen = Excluded(np.concatenate([np.zeros(0, np.int32), *histories]), ends - lengths, ends)
        scan = scan_block(scores, np.zeros(len(sessions), np.int64), seen, k)
        if scan.bad.any():
            raise MfganError("recommend: scores must be finite, got NaN or infinity")
        total = _log_total(scores, seen)
        return self._frame(sessions, scan, total)

    def _frame(
        self, sessions: Sequence[Session], scan: Scan, total: npt.NDArray[np.float32]
    ) -> pl.DataFrame:
        rows, places = np.nonzero(scan.top)
        items = scan.top[rows, places]
        scores = scan.top_scores[rows, places]
        names = pl.Series(SESSION, [session.name for session in sessions], dtype=pl.String)
        return pl.DataFrame(
            {
                SESSION: names.gather(rows),
                RANK: (places + 1).astype(np.int32),
                ITEM_IDX: items,
                ITEM_ID: self.dataset.item_ids.take(items),
                TITLE: self.dataset.item_titles.take(items),
                SCORE: scores,
                PROBABILITY: np.exp(scores - total[rows]),
            }
        )


def _log_total(scores: Tensor, seen: Excluded) -> npt.NDArray[np.float32]:
    masked = scores.clone()
    lengths = seen.ends - seen.starts
    rows = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
    items = torch.from_numpy(seen.items.astype(np.int64))
    masked[rows.to(scores.device), items.to(scores.device)] = -torch.inf
    masked[:, 0] = -torch.inf
    total: npt.NDArray[np.float32] = masked.logsumexp(dim=1).cpu().numpy()
    return total


def _check_many(name: str, given: Any) -> None:
    """A text would be taken for the ids that its letters are."""
    if isinstance(given, str | bytes):
        raise MfganError(f"recommend: {name} must be a list of ids, got {given!r}")


def read_sessions(sessions: Any) -> Iterator[tuple[str, list[str]]]:
    """Names and external item ids of the sessions that ``Recommender.recommend`` is given.

    Raises:
        MfganError: A table lacks a column, or a row its session or item; a text stands where a
            list of ids is wanted.
    """
    if not hasattr(sessions, "__arrow_c_stream__"):
        _check_many("sessions", sessions)
        for place, items in enumerate(sessions):
            _check_many(f"session {place}", items)
            yield str(place), list(items)
        return
    frame = pl.DataFrame(sessions)
    for column in (SESSION, ITEM_ID):
        if column not in frame.columns:
            raise MfganError(
                f"recommend: a table of sessions must have the column {column}, got "
                f"{', '.join(frame.columns)}{nearest(column, frame.columns)}"
            )
    # As `mfgan prepare` reads them: what has become 3.0 is the item 3.
    frame = frame.select(SESSION, ids(frame[ITEM_ID]).cast(pl.String))
    if empty := int(frame.select(pl.any_horizontal(pl.all().is_null()).sum()).item()):
        raise MfganError(
            f"recommend: a table of sessions must name the {SESSION} and {ITEM_ID} of every row, "
            f"{empty} of {frame.height} lack one"
        )
    for (name,), part in frame.group_by(SESSION, maintain_order=True):
        yield str(name), part[ITEM_ID].to_list()
