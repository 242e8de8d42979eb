"""What chooses the sets to show: the rivals of a learned policy, and what they have in common."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mfgan.data.batch import JaggedBatch
from mfgan.data.dataset import PreparedDataset
from mfgan.data.displays.batch import EventStore
from mfgan.data.displays.dataset import DisplayDataset
from mfgan.errors import MfganError
from mfgan.models.generator import Generator
from mfgan.simulation.pool import pool_context, top_items
from mfgan.simulation.tracked_user import TrackedUser
from mfgan.simulation.users import SimulatedUsers
from mfgan.training.user_model.stages import LearnedUser

_RANKER_STEPS = 60


class Recommender(Protocol):
    """Chooses what to show to many users at once."""

    name: str

    def begin(self, users: SimulatedUsers) -> None:
        """New sessions begin; ``users`` are those to be shown to."""

    def choose(self, users: SimulatedUsers, step: int) -> Tensor:
        """``(num_users, k)`` int64 item_idx to show.

        Args:
            users: Of whom clicks and displays so far may be read, and nothing else.
            step: Displays so far.
        """


class RandomRecommender:
    """Items at random.

    Args:
        pool: ``(n,)`` items that may be shown.
        slate: k.
        seed: Of the draws.
    """

    name = "random"

    def __init__(self, pool: Tensor, slate: int, *, seed: int = 0) -> None:
        self._pool, self._slate, self._seed = pool, slate, seed

    def begin(self, users: SimulatedUsers) -> None:
        self._generator = torch.Generator().manual_seed(self._seed)

    def choose(self, users: SimulatedUsers, step: int) -> Tensor:
        scores = torch.rand(users.num_users, len(self._pool), generator=self._generator)
        return top_items(users, scores, self._pool, self._slate)


class GreedyRecommender:
    """The items of highest utility at this moment, as the training user models see them.

    Args:
        known: The training user models.
        pool: ``(n,)`` items that may be shown.
        slate: k.
    """

    name = "greedy"

    def __init__(self, known: Sequence[LearnedUser], pool: Tensor, slate: int) -> None:
        self._tracked, self._pool, self._slate = TrackedUser(known), pool, slate

    def begin(self, users: SimulatedUsers) -> None:
        self._tracked.begin(users)

    def choose(self, users: SimulatedUsers, step: int) -> Tensor:
        utilities, _ = self._tracked.utilities(users, self._pool)
        return top_items(users, utilities, self._pool, self._slate)


class SupervisedRanker:
    """Logistic regression of clicks on item, exposure and what the user did with it before.

    It is fitted to the rows of the logged displays and knows nothing of the displays as sets.

    Args:
        dataset: The logged displays.
        users: ``(n,)`` users to fit to.
        pool: ``(n,)`` items that may be shown.
        slate: k.
        penalty: L2 on the items' weights.
    """

    name = "ranker"

    def __init__(
        self,
        dataset: DisplayDataset,
        users: np.ndarray,
        pool: Tensor,
        slate: int,
        *,
        penalty: float = 1e-3,
    ) -> None:
        self._pool, self._slate = pool, slate
        batch = EventStore(dataset).batch(users)
        shown = torch.from_numpy(np.log1p(dataset.counts(users)[0])).float()
        clicked = torch.zeros(len(batch.items))
        clicked[batch.clicks[batch.clicks >= 0]] = 1
        self._item = torch.zeros(dataset.num_items + 1, requires_grad=True)
        self._rest = torch.zeros(5, requires_grad=True)  # context, exposure, constant
        self._shown = shown
        optimizer = torch.optim.LBFGS(
            [self._item, self._rest], max_iter=_RANKER_STEPS, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            scores = self._score(batch.items, batch.context)
            fit = nn.functional.binary_cross_entropy_with_logits(scores, clicked)
            total = fit + penalty * self._item.square().sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]

    def _score(self, items: Tensor, context: Tensor) -> Tensor:
        rest = context @ self._rest[:3] + self._rest[3] * self._shown[items] + self._rest[4]
        return self._item[items] + rest

    def begin(self, users: SimulatedUsers) -> None:
        """Nothing is kept between sessions."""

    @torch.no_grad()
    def choose(self, users: SimulatedUsers, step: int) -> Tensor:
        scores = self._score(self._pool, pool_context(users, self._pool))
        return top_items(users, scores, self._pool, self._slate)


class GeneratorRecommender:
    """The next items that a trained MFGAN generator expects after the clicks of the session.

    A user who has clicked nothing gets the items with most interactions in the generator's training
    part.

    Args:
        generator: The generator.
        dataset: What it was trained on.
        displays: The displays of the simulated users; items are matched by their external id.
        pool: ``(n,)`` items that may be shown.
        slate: k.

    Raises:
        MfganError: Fewer than k items of the pool are known to the generator.
    """

    name = "MFGAN generator"

    def __init__(
        self,
        generator: Generator,
        dataset: PreparedDataset,
        displays: DisplayDataset,
        pool: Tensor,
        slate: int,
    ) -> None:
        known = [dataset.item_idx(displays.item_ids[item]) or 0 for item in pool.tolist()]
        if sum(item > 0 for item in known) < slate:
            raise MfganError(
                f"{dataset.path}: must know {slate} items or more of {displays.path}, knows"
                f" {sum(item > 0 for item in known)}"
            )
        self._generator, self._pool, self._slate = generator.eval(), pool, slate
        self._known = torch.tensor(known)
        place = torch.zeros(displays.num_items + 1, dtype=torch.int64)
        place[pool] = self._known
        self._theirs = place
        self._popular = torch.from_numpy(dataset.train_counts()).float()

    def begin(self, users: SimulatedUsers) -> None:
        """Nothing is kept between sessions."""

    @torch.no_grad()
    def choose(self, users: SimulatedUsers, step: int) -> Tensor:
        clicked = self._theirs[users.clicked]
        histories = [row[row > 0].tolist() for row in clicked]
        begun = torch.tensor([len(history) > 0 for history in histories])
        scores = self._popular[self._known].repeat(users.num_users, 1)
        if bool(begun.any()):
            width = self._generator.config.max_len
            batch = JaggedBatch.from_sequences([h for h in histories if h], max_len=width)
            scores[begun] = self._generator.scores_after(batch)[:, self._known]
        scores = scores.masked_fill(self._known == 0, torch.finfo(scores.dtype).min)
        return top_items(users, scores, self._pool, self._slate)
