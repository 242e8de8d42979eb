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
from mfgan.models.user_model import UserModel
from mfgan.models.user_state import Carry
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


def top_items(users: SimulatedUsers, scores: Tensor, pool: Tensor, count: int) -> Tensor:
    """``(num_users, count)`` the items of highest score among those not shown in the session yet.

    No recommender shows an item twice in a session: logs hold next to nothing on what users do
    then, and a policy would live off what the user model makes up about it.

    Args:
        users: Who was shown what.
        scores: ``(num_users, n)``; of equals the first in the pool wins.
        pool: ``(n,)`` int64 item_idx.
        count: Items to take.
    """
    scores = scores.masked_fill(shown_already(users, pool), -torch.inf)
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return pool[order]


def shown_already(users: SimulatedUsers, pool: Tensor) -> Tensor:
    """``(num_users, n)`` bool: the item was shown in this session."""
    done = max(int(users.steps.max()), 1)
    shown = users.shown[:, :done].flatten(1)
    table = torch.zeros(users.num_users, users.num_items + 1, dtype=torch.bool)
    return table.scatter_(1, shown, True)[:, pool]


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


class TrackedUser:
    """The training user models following what the users of another model see and click.

    Args:
        users: The learned users that a recommender knows; their utilities are averaged.
        block: Users whose utilities are computed at once.
    """

    def __init__(self, users: Sequence[LearnedUser], *, block: int = 256) -> None:
        self._models = [user.eval().reward for user in users]
        self._block = block

    def begin(self, users: SimulatedUsers) -> None:
        """Start from users who have clicked nothing."""
        self._carries = [
            model.encoder.begin(model.features, users.num_users) for model in self._models
        ]
        self._seen = 0

    @torch.no_grad()
    def utilities(self, users: SimulatedUsers, pool: Tensor) -> tuple[Tensor, Tensor]:
        """What the models think each item is worth to each user now.

        Returns:
            ``(num_users, n)`` utilities and ``(num_users, n, 3)`` context.
        """
        done = int(users.steps.max())
        while self._seen < done:
            clicks = users.clicked[:, self._seen]
            self._carries = [
                model.encoder.advance(model.features, carry, clicks)
                for model, carry in zip(self._models, self._carries, strict=True)
            ]
            self._seen += 1
        context = pool_context(users, pool)
        found = [
            self._of(model, carry, context, pool)
            for model, carry in zip(self._models, self._carries, strict=True)
        ]
        return torch.stack(found).mean(0), context

    def _of(self, model: UserModel, carry: Carry, context: Tensor, pool: Tensor) -> Tensor:
        found = []
        for start in range(0, len(context), self._block):
            part = context[start : start + self._block]
            owner = torch.arange(len(part)).repeat_interleave(len(pool))
            items = pool.repeat(len(part))
            states = carry.hidden[start : start + self._block]
            values = model.utilities(states, items, owner, part.flatten(0, 1))
            found.append(values.view(len(part), len(pool)))
        return torch.cat(found)


def pool_context(users: SimulatedUsers, pool: Tensor) -> Tensor:
    """``(num_users, n, 3)`` of ``SimulatedUsers.context`` for a whole pool, by counting."""
    width = users.num_items + 1
    done = max(int(users.steps.max()), 1)
    clicked = users.clicked[:, :done]
    shown = users.shown[:, :done].flatten(1)
    table = torch.zeros(users.num_users, width, 3)
    table[..., 0].scatter_add_(1, clicked, torch.ones(clicked.shape))
    table[..., 2].scatter_add_(1, shown, torch.ones(shown.shape))
    table[..., 1].scatter_(1, users.last_clicks(1), 1.0)
    context = table[:, pool]
    context[..., 0].log1p_()
    context[..., 2].log1p_()
    return context


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
            hidden = self._generator(batch)[batch.last_tokens()]
            scores[begun] = self._generator.logits(hidden)[:, self._known]
        scores = scores.masked_fill(self._known == 0, torch.finfo(scores.dtype).min)
        return top_items(users, scores, self._pool, self._slate)
